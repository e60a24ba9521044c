"""The records of a partition between two offsets."""

import time
from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from streaming_app.waiting import NotYetError


def read_records(
    consumer: KafkaConsumer, partition: TopicPartition, begin: int, end: int, seconds: float
) -> Iterator[Any]:
    """Let a consumer read a partition that is assigned to it from `begin` up to, not including, `end`.

    Afterwards its position is where to go on. Raises NotYetError when Kafka does not deliver for `seconds`.
    """
    consumer.seek(partition, begin)
    deadline = time.monotonic() + seconds
    while begin < end and int(consumer.position(partition)) < end:
        if time.monotonic() > deadline:
            raise NotYetError(f"Kafka does not deliver {partition.topic}-{partition.partition}")
        for record in consumer.poll(timeout_ms=200).get(partition, ()):
            if record.offset < end:
                yield record
