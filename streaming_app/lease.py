"""Which of several serving processes answers: the one that holds the lease.

The processes are the members of a consumer group over the takeovers topic, whose one partition is the lease.
Kafka gives it to another member when its holder leaves the group, or has not been heard of for the session's
length. A takeover is put down in one transaction with an offset of the group, which Kafka refuses to who is
no longer its member (KIP-447): a process that was frozen and wakes up can't put itself down as the newest.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Event
from typing import Any, TypeVar

import structlog

# kafka-python 3.0.12 forgets a rebalance that outlasts one poll: the member then never gets its partition,
# sends no more heartbeats and is not told of it. librdkafka's group membership is sound.
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from streaming_app.kafka_access import for_kafka_python, for_librdkafka
from streaming_app.settings import ServingSettings
from streaming_app.takeovers import Takeover

log = structlog.get_logger()
Result = TypeVar("Result")

_POLL_SECONDS = 0.05
_SECONDS_OF_THE_CLOCK = 0.1
_SECONDS_TO_LEAVE = 3.0
_SECONDS_TO_WRITE = 10.0
_LOOKS_AT_ODDS = 3


class LeaseLostError(Exception):
    """Another process answers, or may; this one has to stop."""


class Lease:
    """A membership in the election, kept up by a thread of its own."""

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self._topic = settings.takeovers_topic
        self._group = f"{settings.serving_group}-lease"
        self._session_ms = int(settings.serving_session_seconds * 1000)
        self._held = Event()
        self._ended = Event()
        self._rejoin = Event()
        # Only the thread that polls it may use it: another would wait for ever (confluent-kafka 2.16).
        self._consumer: Consumer | None = None
        self._membership: Any = None
        self._member_id: str | None = None
        self._granted = False
        self._producer: Future[Producer] = Future()
        self._thread = threading.Thread(target=self._take_part, name="lease", daemon=True)
        self._clock = threading.Thread(target=self._watch_clock, name="lease-clock", daemon=True)
        self._audit = threading.Thread(target=self._compare, name="lease-audit", daemon=True)

    def take_part(self) -> None:
        """Join the group."""
        for thread in (self._thread, self._clock, self._audit):
            thread.start()

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
                _in_thread("takeover", partial(self._write, takeover)).result(_SECONDS_TO_WRITE)
            except (KafkaException, TimeoutError) as error:
                # Also while another member comes or goes: then who holds the lease is known in a moment.
                log.warning("takeover_refused", reason=f"{type(error).__name__}: {error}"[:300])
                self._ended.wait(0.1)
            else:
                return
            finally:
                self._prepare()
        raise LeaseLostError

    def give_back(self) -> None:
        """Leave the group, so that another member gets the lease at once."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_SECONDS_TO_LEAVE)

    def _take_part(self) -> None:
        trouble = ""
        self._prepare()
        while not self._ended.is_set():
            try:
                if self._rejoin.is_set():
                    self._leave()
                    self._rejoin.clear()
                self._consumer = self._consumer or self._member()
                record = self._consumer.poll(_POLL_SECONDS)
                self._membership = self._consumer.consumer_group_metadata()
                self._member_id = self._consumer.memberid()
                if self._granted and not self._rejoin.is_set():
                    self._held.set()
                said = "" if record is None or record.error() is None else str(record.error())
            except KafkaException as error:
                said = str(error)
                self._ended.wait(1)
            if said and said != trouble:
                log.warning("lease_unknown", reason=said[:300])
            trouble = said or trouble
        self._leave()

    def _leave(self) -> None:
        self._lose()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        """Kafka's answer to who holds the lease."""
        consumer.incremental_assign(assigned)
        consumer.pause(assigned)  # what it holds is asked, not what it reads
        self._granted = self._granted or bool(assigned)

    def _on_revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        """Kafka wants the lease for another member, or has given it away while this one was not heard of."""
        if revoked:
            self._lose()
        consumer.incremental_unassign(revoked)

    def _lose(self) -> None:
        self._granted = False
        self._held.clear()

    def _watch_clock(self) -> None:
        """Notice that the process was frozen: Kafka has given the lease away by now, or is about to."""
        looked_at = time.monotonic()
        while not self._ended.wait(_SECONDS_OF_THE_CLOCK):
            before, looked_at = looked_at, time.monotonic()
            if looked_at - before > self._settings.serving_session_seconds:
                log.warning("frozen", seconds=round(looked_at - before, 1))
                self._rejoin.set()
                self._held.clear()

    def _compare(self) -> None:
        """Join anew when to Kafka nobody has the lease for long, or this process, which knows nothing of it.

        Should a member miss its grant around an outage of Kafka, all would stand by for ever.
        """
        at_odds = 0
        while not self._ended.wait(self._settings.serving_session_seconds):
            try:
                holder = self._holder()
            except (KafkaError, OSError):  # Kafka is away
                at_odds = 0
                continue
            doubtful = not self._held.is_set() and holder in (None, self._member_id)
            at_odds = at_odds + 1 if doubtful else 0
            if at_odds >= _LOOKS_AT_ODDS:
                log.warning("lease_unclaimed", holder=holder, now="joining anew")
                self._rejoin.set()
                at_odds = 0

    def _holder(self) -> str | None:
        """The member that holds the lease as Kafka has it, None without one."""
        # Not librdkafka's: to describe groups while the broker goes ends the process
        # (confluent-kafka 2.16: assertion in rd_kafka_enq_once_del_source_return).
        admin = KafkaAdminClient(
            **for_kafka_python(self._settings), request_timeout_ms=5_000, bootstrap_timeout_ms=5_000
        )
        try:
            described = admin.describe_groups([self._group])[self._group]
        finally:
            admin.close()
        if described["error"]:
            raise KafkaError(described["error"])
        # Of a member without an assignment it is empty bytes.
        assigned = (m for m in described["members"] if m["member_assignment"])
        return next((m["member_id"] for m in assigned if m["member_assignment"]["assigned_partitions"]), None)

    def _member(self) -> Consumer:
        consumer = Consumer(
            {
                **for_librdkafka(self._settings),
                "group.id": self._group,
                "client.id": self._settings.serving_instance,
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",
                # Whoever holds the lease keeps it when others come and go.
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": self._session_ms,
                # By which a standby hears of a departure.
                "heartbeat.interval.ms": min(100, self._session_ms // 3),
                "max.poll.interval.ms": max(300_000, self._session_ms),
                "reconnect.backoff.max.ms": 1000,
                "log_level": 2,
            }
        )
        consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
        return consumer

    def _write(self, takeover: Takeover) -> None:
        producer = self._producer.result()
        producer.begin_transaction()
        producer.produce(self._topic, value=takeover.record(), partition=0)
        producer.send_offsets_to_transaction(
            [TopicPartition(self._topic, 0, 0)], self._membership, _SECONDS_TO_WRITE
        )
        producer.commit_transaction(_SECONDS_TO_WRITE)

    def _prepare(self) -> None:
        """Have a producer ready for the next takeover, a new one each time.

        Its coming ends a transaction that the one before left open, which would hide the takeovers behind
        it. And librdkafka waits for ever for a group coordinator that it knows from before an outage of
        Kafka, whatever the time limit (https://github.com/confluentinc/librdkafka/issues/5456 and 5511).
        """
        self._producer = _in_thread("takeover-producer", self._transactional_producer)

    def _transactional_producer(self) -> Producer:
        producer = Producer(
            {
                **for_librdkafka(self._settings),
                "client.id": self._settings.serving_instance,
                "transactional.id": f"{self._settings.serving_group}-{self._settings.serving_instance}",
                # An open one hides all takeovers behind it.
                "transaction.timeout.ms": self._session_ms,
                "linger.ms": 0,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 2,
            }
        )
        producer.init_transactions(_SECONDS_TO_WRITE)
        return producer


def _in_thread(name: str, work: Callable[[], Result]) -> "Future[Result]":
    """Do `work` in a thread that nobody has to wait for."""
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # it is raised where the result is asked for
            done.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
