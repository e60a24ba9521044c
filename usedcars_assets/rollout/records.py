"""The records of a topic of one partition, from an offset to its end."""

import time
from dataclasses import dataclass

from usedcars_assets.failures import UnavailableError
from usedcars_assets.resources.topics import Topics

_READ_SECONDS = 20.0


@dataclass(frozen=True)
class Records:
    """What was read, and where to go on."""

    values: tuple[bytes, ...]
    next_offset: int


def read_records(topics: Topics, topic: str, start: int = 0, most: int | None = None) -> Records:
    """The committed records from `start` on, or the newest `most` offsets of them.

    A `start` behind the topic's end is that of a topic made anew, which is read from its beginning. Raises
    UnavailableError when there is no such topic or Kafka does not deliver, KafkaError when it is away.
    """
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(**topics.access(), enable_auto_commit=False, isolation_level="read_committed")
    try:
        if not consumer.partitions_for_topic(topic):
            raise UnavailableError(f"Kafka has no topic {topic}: create it, `make up` does.")
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        first = int(consumer.beginning_offsets([partition])[partition])
        end = int(consumer.end_offsets([partition])[partition])
        start = first if start > end else max(first, start)
        consumer.seek(partition, start if most is None else max(start, end - most))
        values: list[bytes] = []
        deadline = time.monotonic() + _READ_SECONDS
        while (position := int(consumer.position(partition))) < end:
            if time.monotonic() > deadline:
                raise UnavailableError(f"Kafka does not deliver {topic}: see the broker's log.")
            for record in consumer.poll(timeout_ms=200).get(partition, ()):
                values.append(record.value or b"")
        return Records(tuple(values), position)
    finally:
        consumer.close()
