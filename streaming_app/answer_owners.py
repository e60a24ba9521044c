"""Which answer to a request counts, by the takeovers: the rule of generations as Spark columns.

A takeover says from which request on its generation answers, and behind which record of the predictions topic
its answers begin. So a request belongs to the last generation that began at or before it; what a process that
was frozen writes to it behind that is dropped.
"""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf

from streaming_app.kafka_access import for_spark
from streaming_app.settings import KafkaSettings
from streaming_app.spark_session import READING

_TAKEOVER = "generation BIGINT, next_offsets MAP<STRING, BIGINT>, answers_from MAP<STRING, BIGINT>"


def read_takeovers(spark: SparkSession, settings: KafkaSettings) -> DataFrame:
    """The takeovers so far: one row, `takeovers`, an array; a streaming query reads it for each batch."""
    return as_takeovers(
        spark.read.format("kafka")
        .options(**for_spark(settings))
        .option("kafka.isolation.level", "read_committed")
        .option("subscribe", settings.takeovers_topic)
        .options(**READING)
        .load()
    )


def as_takeovers(records: DataFrame) -> DataFrame:
    """Read raw records of the takeovers topic: one row, `takeovers`, an array."""
    takeover = sf.from_json(sf.col("value").cast("string"), _TAKEOVER)
    return records.agg(sf.collect_list(takeover).alias("takeovers"))


def keep_owners_answers(answers: DataFrame, takeovers: DataFrame) -> DataFrame:
    """Drop the answers that a generation gave to requests of a later one.

    `answers` with generation, source_partition, source_offset, and the answer's own partition and offset.
    """

    def supersedes(takeover: Column) -> Column:
        return (
            (takeover["generation"] > sf.col("generation"))
            & (takeover["next_offsets"][sf.col("source_partition").cast("string")] <= sf.col("source_offset"))
            & (takeover["answers_from"][sf.col("answer_partition").cast("string")] <= sf.col("answer_offset"))
        )

    return (
        answers.crossJoin(sf.broadcast(takeovers))
        .where(~sf.coalesce(sf.exists("takeovers", supersedes), sf.lit(False)))
        .drop("takeovers")
    )
