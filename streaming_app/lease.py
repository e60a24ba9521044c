"""Which of several serving processes answers: the one that holds the lease.

The processes are the members of a consumer group over the takeovers topic, whose one partition is the lease.
Kafka gives it to another member when its holder leaves the group, or has not been heard of for the session's
length. A takeover is put down in one transaction with an offset of the group, which Kafka refuses to who is
no longer its member (KIP-447): a process that was frozen and wakes up can't put itself down as the newest.
"""

import threading
import time
from threading import Event

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from streaming_app.settings import ServingSettings
from streaming_app.takeovers import Takeover

log = structlog.get_logger()

_POLL_MS = 50
_SECONDS_OF_THE_CLOCK = 0.1
_SECONDS_TO_LEAVE = 2.0


class LeaseLostError(Exception):
    """Another process answers, or may; this one has to stop."""


class Lease(ConsumerRebalanceListener):  # type: ignore[misc]
    """A membership in the election, kept up by a thread of its own."""

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self._partition = TopicPartition(settings.takeovers_topic, 0)
        self._session_ms = int(settings.serving_session_seconds * 1000)
        self._held = Event()
        self._ended = Event()
        self._rejoin = Event()
        self._consumer: KafkaConsumer | None = None
        self._producer: KafkaProducer | None = None
        self._thread = threading.Thread(target=self._take_part, name="lease", daemon=True)
        self._clock = threading.Thread(target=self._watch_clock, name="lease-clock", daemon=True)

    def take_part(self) -> None:
        """Join the group."""
        self._thread.start()
        self._clock.start()

    def held(self) -> bool:
        """Whether this process holds the lease."""
        return self._held.is_set()

    def check(self) -> None:
        """Raise LeaseLostError when this process does not hold the lease."""
        if not self.held():
            raise LeaseLostError

    def put_down(self, takeover: Takeover) -> None:
        """Write it to the takeovers topic; LeaseLostError when Kafka knows another holder.

        Waits for Kafka as long as it is away.
        """
        while self._held.is_set():
            try:
                self._write(takeover)
            except KafkaError as error:
                # Also while another member comes or goes: then who holds the lease is known in a moment.
                log.warning("takeover_refused", reason=f"{type(error).__name__}: {error}"[:300])
                self._producer = None
                self._ended.wait(0.1)
            else:
                return
        raise LeaseLostError

    def give_back(self) -> None:
        """Leave the group, so that another member gets the lease at once."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_SECONDS_TO_LEAVE + 1)

    def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Kafka's answer to who holds the lease."""
        if self._partition in assigned and not self._rejoin.is_set():
            self._held.set()

    def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Kafka wants the lease for another member."""
        if self._partition in revoked:
            self._held.clear()

    def on_partitions_lost(self, lost: list[TopicPartition]) -> None:
        """Kafka has given the lease away while this process was not heard of."""
        if self._partition in lost:
            self._held.clear()

    def _take_part(self) -> None:
        while not self._ended.is_set():
            try:
                self._consumer = self._consumer or self._member()
                if self._rejoin.is_set():
                    self._consumer.unsubscribe()
                    self._rejoin.clear()
                    self._consumer.subscribe([self._partition.topic], listener=self)
                self._consumer.poll(timeout_ms=_POLL_MS)
                self._consumer.pause(*self._consumer.assignment())  # who polls is asked, not what it reads
            except (KafkaError, OSError, ValueError) as error:
                log.warning("lease_unknown", reason=f"{type(error).__name__}: {error}"[:300])
                self._ended.wait(1)
        self._held.clear()
        if self._consumer is not None:
            self._consumer.close(autocommit=False, timeout_ms=int(_SECONDS_TO_LEAVE * 1000))

    def _watch_clock(self) -> None:
        """Notice that the process was frozen: Kafka has given the lease away by now, or is about to."""
        looked_at = time.monotonic()
        while not self._ended.wait(_SECONDS_OF_THE_CLOCK):
            before, looked_at = looked_at, time.monotonic()
            if looked_at - before > self._settings.serving_session_seconds:
                log.warning("frozen", seconds=round(looked_at - before, 1))
                self._held.clear()
                self._rejoin.set()

    def _member(self) -> KafkaConsumer:
        consumer = KafkaConsumer(
            bootstrap_servers=self._settings.kafka_bootstrap_servers,
            group_id=f"{self._settings.serving_group}-lease",
            client_id=self._settings.serving_instance,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            # Whoever holds the lease keeps it when others come and go.
            partition_assignment_strategy=[CooperativeStickyAssignor],
            session_timeout_ms=self._session_ms,
            heartbeat_interval_ms=min(100, self._session_ms // 3),  # by which a standby hears of a departure
            max_poll_interval_ms=max(300_000, self._session_ms),
        )
        consumer.subscribe([self._partition.topic], listener=self)
        return consumer

    def _write(self, takeover: Takeover) -> None:
        consumer = self._consumer
        if consumer is None:
            raise LeaseLostError
        self._producer = producer = self._producer or self._transactional_producer()
        producer.begin_transaction()
        producer.send(self._partition.topic, value=takeover.record(), partition=0)
        producer.send_offsets_to_transaction(
            {self._partition: OffsetAndMetadata(0, "", -1)}, consumer.group_metadata()
        )
        producer.commit_transaction()

    def _transactional_producer(self) -> KafkaProducer:
        producer = KafkaProducer(
            bootstrap_servers=self._settings.kafka_bootstrap_servers,
            client_id=self._settings.serving_instance,
            transactional_id=f"{self._settings.serving_group}-{self._settings.serving_instance}",
            transaction_timeout_ms=self._session_ms,  # an open one hides all takeovers behind it
        )
        producer.init_transactions()
        return producer
