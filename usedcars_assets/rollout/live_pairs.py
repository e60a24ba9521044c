"""Cars that a version priced in service and whose price was set later, read from Kafka by Spark."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usedcars_assets.failures import UnavailableError
from usedcars_assets.resources.topics import Topics

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_MESSAGE = (
    "type STRING, request_id STRING, listing STRING, price STRING, model_version STRING, generation BIGINT"
)
_DEAREST_USD = 1e8  # as serving reads a set price


@dataclass(frozen=True)
class Span:
    """A stretch of a topic: offsets by partition."""

    topic: str
    starts: dict[int, int]
    ends: dict[int, int]

    @property
    def messages(self) -> int:
        """How many there may be."""
        return sum(self.ends[partition] - start for partition, start in self.starts.items())


def span_since(topics: Topics, topic: str, milliseconds: int, most: int) -> Span:
    """The first `most` messages of a topic since a time, shared equally by its partitions.

    Raises UnavailableError when there is no such topic, KafkaError when Kafka is away.
    """
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(**topics.access(), enable_auto_commit=False)
    try:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise UnavailableError(f"Kafka has no topic {topic}: create it, `make up` does.")
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        ends = consumer.end_offsets(partitions)
        found = consumer.offsets_for_times(dict.fromkeys(partitions, milliseconds))
        starts = {
            partition: ends[partition]
            if (at := found[partition]) is None
            else min(at.offset, ends[partition])
            for partition in partitions
        }
        share = most // len(partitions)
        return Span(
            topic=topic,
            starts={partition.partition: starts[partition] for partition in partitions},
            ends={
                partition.partition: min(ends[partition], starts[partition] + share)
                for partition in partitions
            },
        )
    finally:
        consumer.close()


def set_prices(spark: "SparkSession", topics: Topics, requests: Span) -> "DataFrame":
    """request_id and set_price (USD): of several prices set for a request the first."""
    from pyspark.sql import functions as sf

    return (
        _messages(spark, topics, requests)
        .where(f"type = 'price_set' AND usd > 0 AND usd <= {_DEAREST_USD}")
        .groupBy("request_id")
        .agg(sf.min_by("usd", sf.struct("timestamp", "offset")).alias("set_price"))
    )


def live_pairs(
    spark: "SparkSession",
    topics: Topics,
    requests: Span,
    predictions: Span,
    version: str,
    prices: "DataFrame",
) -> "DataFrame":
    """One row a car: request_id, listing (JSON), answered and set_price (USD).

    prices: of `set_prices`. Of several answers of the version to a request that of the highest generation
    counts.
    """
    from pyspark.sql import functions as sf

    listings = (
        _messages(spark, topics, requests)
        .where("type = 'price_request' AND listing IS NOT NULL")
        .groupBy("request_id")
        .agg(sf.min_by("listing", "offset").alias("listing"))
    )
    answers = (
        _messages(spark, topics, predictions)
        .where((sf.col("type") == "price") & (sf.col("model_version") == version) & (sf.col("usd") > 0))
        .groupBy("request_id")
        .agg(sf.max_by("usd", sf.coalesce("generation", sf.lit(-1))).alias("answered"))
    )
    return answers.join(prices, "request_id").join(listings, "request_id")


def _messages(spark: "SparkSession", topics: Topics, span: Span) -> "DataFrame":
    from pyspark.sql import functions as sf

    records = (
        spark.read.format("kafka")
        .options(**topics.spark_access())
        .option("subscribe", span.topic)
        .option("startingOffsets", json.dumps({span.topic: span.starts}))
        .option("endingOffsets", json.dumps({span.topic: span.ends}))
        .load()
    )
    message = sf.from_json(sf.col("value").cast("string"), _MESSAGE)
    price = sf.col("message.price").try_cast("double")
    return (
        records.select(message.alias("message"), "timestamp", "offset")
        .where("message.request_id IS NOT NULL")
        .select("message.*", "timestamp", "offset", price.alias("usd"))
    )
