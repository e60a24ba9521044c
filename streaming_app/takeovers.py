"""The takeovers topic: which process began to answer when, with which version, from where on.

It has one partition. Each takeover has a generation of its own, higher than all before, which its answers
carry: of two answers to one request the one of the higher generation counts.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from confluent_kafka import TopicPartition

from streaming_app.records import TIMEOUT, connect, read_records, topic_partitions
from streaming_app.settings import KafkaSettings

NO_GENERATION = -1
"""Below every generation: that of answers from before there were takeovers."""


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
            connect(settings, "usedcars-takeovers", settings.takeovers_topic, isolation)
            for isolation in ("read_committed", "read_uncommitted")
        )
        self._next = 0
        self._last: Takeover | None = None
        try:
            topic_partitions(self._consumer, settings.takeovers_topic)
        except BaseException:
            self.close()
            raise

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

        Raises NotYetError when Kafka does not deliver, KafkaException when it is away.
        """
        # Not the end of what is committed, which lags a moment behind the commit of a takeover.
        first, end = self._ends.get_watermark_offsets(self._partition, TIMEOUT)
        begin = max(first, self._next)
        records = list(read_records(self._consumer, self._partition, begin, end))
        self._next = max(begin, end)
        takeovers = (read_takeover(record.value()) for record in records)
        return [takeover for takeover in takeovers if takeover is not None]
