"""Reading Kafka's records between two offsets, as often as an outage of Kafka makes it necessary.

With librdkafka: kafka-python 3.0.12 needs half a minute and more to find a broker again that was away.
"""

import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streaming_app.kafka_access import for_librdkafka
from streaming_app.settings import KafkaSettings
from streaming_app.waiting import NotYetError

TIMEOUT = 5.0
"""Seconds that Kafka has for an answer."""


def reader(
    settings: KafkaSettings, client: str, group: str, options: Mapping[str, Any] = MappingProxyType({})
) -> Consumer:
    """A consumer that never joins its group; not to be used by several threads."""
    return Consumer(
        {
            **for_librdkafka(settings),
            "group.id": group,
            "client.id": client,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "reconnect.backoff.max.ms": 1000,
            "log_level": 2,
            **options,
        }
    )


def connect(settings: KafkaSettings, client: str, group: str, isolation: str) -> Consumer:
    """A reader for `read_records`.

    isolation: read_committed or read_uncommitted, which decides also what the end of a partition is.
    """
    return reader(
        settings,
        client,
        group,
        # The end of a partition is told by an empty fetch.
        {"isolation.level": isolation, "enable.partition.eof": True, "fetch.wait.max.ms": 10},
    )


def topic_partitions(consumer: Consumer, topic: str) -> list[int]:
    """The partitions of a topic. Raises NotYetError when there is none, KafkaException when Kafka is away."""
    described = consumer.list_topics(topic, TIMEOUT).topics[topic]
    if described.error is not None:
        raise NotYetError(f"Kafka has no topic {topic} yet")
    return sorted(described.partitions)


def read_records(
    consumer: Consumer, partition: TopicPartition, begin: int, end: int, seconds: float = TIMEOUT
) -> Iterator[Message]:
    """The records of a partition from `begin` up to, not including, `end`.

    Raises NotYetError when Kafka does not deliver them within `seconds`: it is away, or they are not
    committed yet; KafkaException when it refuses.
    """
    deadline = time.monotonic() + seconds
    position = begin
    if position < end:
        consumer.assign([TopicPartition(partition.topic, partition.partition, begin)])
    try:
        while position < end:
            if time.monotonic() > deadline:
                raise NotYetError(f"Kafka does not deliver {partition.topic}-{partition.partition}")
            # It returns with so many, or at the end of its time: no more than there may be.
            for record in consumer.consume(min(1_000, end - position), 0.2):
                error, offset = record.error(), record.offset()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                if offset is None:
                    continue
                position = offset + (error is None)
                if error is None and offset < end:
                    yield record
    finally:
        consumer.unassign()
