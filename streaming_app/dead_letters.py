"""Dead letters: the rejected messages with the reasons, copied from the requests and their answers."""

import json
from collections.abc import Mapping
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.streaming.query import StreamingQuery

from streaming_app.instants import INSTANT
from streaming_app.kafka_access import for_spark
from streaming_app.settings import LiveMetricsSettings
from streaming_app.spark_session import READING, read_topic

_REJECTION = (
    "type STRING, request_id STRING, reason STRING, field STRING, model_version STRING, generation BIGINT, "
    "source_partition INT, source_offset BIGINT, answered_at STRING"
)
_ANSWERS = 10_000  # a batch: it reads again what was asked between its first and last rejection
_TRIGGER = "10 seconds"  # nobody waits for them, and the figures need the cores
# Far above what a broker takes: its own limit is the one that counts.
_LARGEST_RECORD_BYTES = 64 * 1024 * 1024


def read_rejections(records: DataFrame) -> DataFrame:
    """Read the rejections of raw Kafka records: the fields of the answer, as columns."""
    answer = sf.from_json(sf.col("value").cast("string"), _REJECTION)
    return (
        records.select(answer.alias("answer"))
        .where(
            "answer.type = 'rejection' AND answer.source_partition IS NOT NULL "
            "AND answer.source_offset IS NOT NULL"
        )
        .select("answer.*")
        .drop("type")
    )


def dead_letters(rejections: DataFrame, requests: DataFrame) -> DataFrame:
    """Join rejections with the raw records of their requests: key and value (JSON) of each dead letter.

    The message is `message_text` where that is shorter as JSON than `message_base64`; both are null when
    the topic has it no more. The key is partition-offset of the request: a repeated letter has the same.
    """
    letters = rejections.dropDuplicates(["source_partition", "source_offset"]).join(
        requests.select(
            sf.col("partition").alias("source_partition"),
            sf.col("offset").alias("source_offset"),
            sf.col("value").alias("message"),
            sf.date_format("timestamp", INSTANT).alias("sent_at"),
        ),
        ["source_partition", "source_offset"],
        "left",
    )
    text = sf.col("message").cast("string")
    base64 = sf.base64("message")
    # Escapes make up to six bytes of one.
    as_text = sf.is_valid_utf8(text) & (
        sf.octet_length(sf.to_json(sf.struct(text.alias("m")))) <= sf.length(base64) + len('{"m":""}')
    )
    return letters.select(
        sf.concat_ws("-", "source_partition", "source_offset").alias("key"),
        sf.to_json(
            sf.struct(
                sf.lit("dead_letter").alias("type"),
                *rejections.columns,
                "sent_at",
                sf.when(as_text, text).alias("message_text"),
                sf.when(~as_text, base64).alias("message_base64"),
            ),
            {"ignoreNullFields": "false"},
        ).alias("value"),
    )


def start_dead_letters(spark: SparkSession, settings: LiveMetricsSettings) -> StreamingQuery:
    """Start to copy, from where the checkpoint stands, else from the first answer. At least once."""
    predictions = read_topic(spark, settings, settings.predictions_topic, _ANSWERS)
    return (
        read_rejections(predictions)
        .writeStream.queryName("dead-letters")
        .option("checkpointLocation", settings.checkpoint("dead-letters"))
        .trigger(processingTime=_TRIGGER)
        .foreachBatch(partial(_copy, settings))
        .start()
    )


def _copy(settings: LiveMetricsSettings, rejections: DataFrame, batch: int) -> None:
    bounds = (
        rejections.groupBy("source_partition")
        .agg(sf.min("source_offset").alias("first"), sf.max("source_offset").alias("last"))
        .collect()
    )
    if not bounds:
        return
    requests = _read_range(
        rejections.sparkSession,
        settings,
        {str(row["source_partition"]): row["first"] for row in bounds},
        {str(row["source_partition"]): row["last"] + 1 for row in bounds},
    )
    (
        dead_letters(rejections, requests)
        .write.format("kafka")
        .options(**for_spark(settings))
        .option("kafka.compression.type", "none")
        .option("kafka.max.request.size", str(_LARGEST_RECORD_BYTES))
        .option("topic", settings.dead_letters_topic)
        .save()
    )


def _read_range(
    spark: SparkSession, settings: LiveMetricsSettings, begin: Mapping[str, int], end: Mapping[str, int]
) -> DataFrame:
    topic = settings.requests_topic
    return (
        spark.read.format("kafka")
        .options(**for_spark(settings))
        .option("assign", json.dumps({topic: [int(partition) for partition in begin]}))
        .option("startingOffsets", json.dumps({topic: begin}))
        .option("endingOffsets", json.dumps({topic: end}))
        .options(**READING)
        .load()
    )
