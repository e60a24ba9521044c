"""A peer of serving: the same model and messages in Spark's ordinary micro-batches, as fast as they follow.

    python benchmarks/peers/micro_batches.py

Reads the settings of serving from the environment.
"""

import tempfile
from pathlib import Path

from pyspark.sql import SparkSession

from streaming_app.messages import answers, requests_to_answer
from streaming_app.model_registry import find_version
from streaming_app.settings import ServingSettings
from streaming_app.spark_session import SHORT_PAUSES, start_spark
from streaming_app.succession import prepare_model


def answer(spark: SparkSession, settings: ServingSettings, checkpoint: Path) -> None:
    version = find_version(settings)
    model = prepare_model(spark, settings, version).model
    messages = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", settings.kafka_bootstrap_servers)
        .option("subscribe", settings.requests_topic)
        .option("startingOffsets", "earliest")
        .load()
    )
    given = answers(requests_to_answer(messages, settings.max_message_bytes), model, version, 0)
    (
        given.writeStream.format("kafka")
        .option("kafka.bootstrap.servers", settings.kafka_bootstrap_servers)
        .option("topic", settings.predictions_topic)
        .option("kafka.compression.type", "none")
        .option("checkpointLocation", checkpoint.as_uri())
        .trigger(processingTime="0 seconds")
        .start()
        .awaitTermination()
    )


if __name__ == "__main__":
    settings = ServingSettings()
    spark = start_spark(
        "micro-batches",
        settings.serving_spark_master,
        settings.serving_spark_driver_memory,
        settings.spark_jars,
        SHORT_PAUSES,
    )
    with tempfile.TemporaryDirectory() as folder:
        answer(spark, settings, Path(folder))
