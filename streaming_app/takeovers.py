"""The takeovers topic: which process began to answer when, with which version, from where on.

It has one partition. Each takeover has a generation of its own, higher than all before, which its answers
carry: of two answers to one request the one of the higher generation counts.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from streaming_app.records import read_records
from streaming_app.settings import KafkaSettings
from streaming_app.waiting import NotYetError

NO_GENERATION = -1
"""Below every generation: that of answers from before there were takeovers."""

_READ_SECONDS = 5.0


@dataclass(frozen=True)
class Takeover:
    """What a process puts down before it answers."""

    generation: int
    instance: str
    model: str
    version: str
    began_at: str  # ISO 8601, UTC
    topic_id: str  # of the requests topic
    next_offsets: Mapping[int, int]  # the first request of each partition that it answers
    answers_from: Mapping[int, int]  # offsets in the predictions topic below which no answer is its own

    def record(self) -> bytes:
        """The record's value."""
        return json.dumps(asdict(self)).encode()


def read_takeover(value: bytes | None) -> Takeover | None:
    """The takeover of a record; None when it is something else."""
    try:
        fields: dict[str, Any] = json.loads(value or b"")
        for name in ("next_offsets", "answers_from"):
            fields[name] = {int(partition): int(at) for partition, at in fields[name].items()}
        return Takeover(**fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


class TakeoverLog:
    """Reads the takeovers topic. Not safe for use by several threads."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._partition = TopicPartition(settings.takeovers_topic, 0)
        self._consumer, self._ends = (
            KafkaConsumer(
                bootstrap_servers=settings.kafka_bootstrap_servers,
                client_id="usedcars-takeovers",
                enable_auto_commit=False,
                isolation_level=level,
            )
            for level in ("read_committed", "read_uncommitted")
        )
        if not self._consumer.partitions_for_topic(settings.takeovers_topic):
            self.close()
            raise NotYetError(f"Kafka has no topic {settings.takeovers_topic} yet")
        self._consumer.assign([self._partition])
        self._next = int(self._consumer.beginning_offsets([self._partition])[self._partition])
        self._last: Takeover | None = None

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()
        self._ends.close()

    def last(self) -> Takeover | None:
        """The last takeover so far, None before the first."""
        for takeover in self.new():
            self._last = takeover
        return self._last

    def new(self) -> Iterable[Takeover]:
        """The takeovers since the last call, from the first on.

        Raises NotYetError when Kafka does not deliver.
        """
        # Not the end of what is committed, which lags a moment behind the commit of a takeover.
        end = int(self._ends.end_offsets([self._partition])[self._partition])
        records = read_records(self._consumer, self._partition, self._next, end, _READ_SECONDS)
        found = [read_takeover(record.value) for record in records]
        self._next = max(self._next, int(self._consumer.position(self._partition)))
        return [takeover for takeover in found if takeover is not None]
