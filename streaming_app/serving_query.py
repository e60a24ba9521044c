"""The one query of serving: Kafka to Kafka through the model, in Spark's real-time mode."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from streaming_app.gate import Gate
from streaming_app.java_classes import java_classes
from streaming_app.kafka_access import for_spark
from streaming_app.logs import first_line
from streaming_app.messages import PriceModel, answers, requests_to_answer
from streaming_app.model_registry import ServedModel, UnfitModelError
from streaming_app.settings import ServingSettings
from streaming_app.takeovers import NO_GENERATION

_FOREVER_MS = str(2**31 - 1)

# An idempotent producer that never gives a batch up keeps the order within a partition, so that the answers
# stay a prefix of the requests while brokers come and go.
_PRODUCER = {
    "kafka.enable.idempotence": "true",
    "kafka.acks": "all",
    "kafka.delivery.timeout.ms": _FOREVER_MS,
    "kafka.max.block.ms": _FOREVER_MS,
    # At thousands of answers a second each would else be a request of its own to the broker.
    "kafka.linger.ms": "1",
    "kafka.batch.size": "65536",  # bytes; with more to do than can be done, fewer requests to the broker
    "kafka.compression.type": "none",
    "kafka.reconnect.backoff.max.ms": "1000",
}
_CONSUMER = {
    # Nothing is lost unsaid: a start behind the retained requests is logged where the offsets are chosen.
    "failOnDataLoss": "false",
    "fetchOffset.numRetries": "600",  # a second each: a broker may take its time to come back
    "kafka.fetch.min.bytes": "1",
    "kafka.fetch.max.wait.ms": "500",
    "kafka.reconnect.backoff.max.ms": "1000",
}


def check_model(
    spark: SparkSession, model: PriceModel, served: ServedModel, settings: ServingSettings
) -> None:
    """Let the model price its own input example, by the way every request takes.

    Raises UnfitModelError when no finite positive price comes out.
    """
    texts = [
        json.dumps({"type": "price_request", "request_id": "example", "listing": json.loads(listing)})
        for listing in served.listings
    ]
    try:
        messages = spark.range(len(texts), numPartitions=1).select(
            sf.element_at(sf.array(*map(sf.lit, texts)), sf.col("id").cast("int") + 1)
            .cast("binary")
            .alias("value"),
            sf.lit(0).alias("partition"),
            sf.col("id").alias("offset"),
            sf.current_timestamp().alias("timestamp"),
        )
        requests = requests_to_answer(messages, settings.max_message_bytes)
        given = [
            json.loads(row["value"])
            for row in optimised(answers(requests, model, served.version, NO_GENERATION)).collect()
        ]
    except Exception as error:
        raise UnfitModelError(
            f"version {served.version} of {served.name} fails on its own input example: "
            f"{first_line(error)}; "
            "register a version that prices it, and set the alias to it"
        ) from error
    nonsense = [answer for answer in given if answer["type"] != "price"]
    if nonsense or not given:
        raise UnfitModelError(
            f"version {served.version} of {served.name} has no price for its own input example "
            f"({nonsense[0]['reason'] if nonsense else 'no answer'}); "
            "register a version that prices it, and set the alias to it"
        )


def plan_answers(
    spark: SparkSession,
    model: PriceModel,
    model_version: str,
    generation: int,
    partitions: Sequence[int],
    settings: ServingSettings,
    gate: Gate,
) -> DataFrame:
    """The query up to the moment of its start: what to answer to requests yet to be read, behind its gate.

    Of these partitions only: one that is added later may have no place for its answers yet.
    """
    requests = (
        spark.readStream.format("kafka")
        .options(**for_spark(settings))
        .option("assign", json.dumps({settings.requests_topic: list(partitions)}))
        .options(**_CONSUMER)
        .load()
    )
    asked = requests_to_answer(gate.before(requests), settings.max_message_bytes)
    return optimised(answers(asked, model, model_version, generation))


def optimised(planned: DataFrame) -> DataFrame:
    """The same rows by the plan that Spark's optimiser makes of it, and that reads plain JSON fast.

    A query optimises its plan when it starts, and with a real model requests would wait for that: half a
    second. What is optimised already takes it little time.
    """
    session: Any = planned.sparkSession._jsparkSession
    plan = session.sessionState().optimizer().execute(planned._jdf.queryExecution().analyzed())
    plan = java_classes(planned.sparkSession).PlainJson.readIn(plan)
    plan = java_classes(planned.sparkSession).Parameter.takenFrom(plan)
    jvm: Any = planned.sparkSession.sparkContext._jvm
    return DataFrame(jvm.org.apache.spark.sql.classic.Dataset.ofRows(session, plan), planned.sparkSession)


def start_query(
    planned: DataFrame,
    settings: ServingSettings,
    starting_offsets: Mapping[int, int],
    checkpoint: Path,
    name: str,
) -> StreamingQuery:
    """Start to answer the requests from `starting_offsets` (partition to offset) on.

    `checkpoint` is a new folder, and `name` that of the query and of its producers alone. Needs a Spark core
    for each partition of the requests topic, as long as it runs.
    """
    _write_starting_offsets(checkpoint, settings.requests_topic, starting_offsets.items())
    writer = (
        planned.writeStream.queryName(name)
        .format("kafka")
        .options(**for_spark(settings))
        .option("topic", settings.predictions_topic)
        .options(**_PRODUCER)
        .option("kafka.client.id", name)
        .option("checkpointLocation", checkpoint.as_uri())
        .outputMode("update")
    )
    # pyspark's declared types do not know real-time mode yet.
    trigger: Callable[..., DataStreamWriter] = writer.trigger
    return trigger(realTime=settings.serving_batch_duration).start()


def _write_starting_offsets(checkpoint: Path, topic: str, offsets: Iterable[tuple[int, int]]) -> None:
    """Say where the query begins in its checkpoint, where Spark's Kafka source keeps it.

    The option startingOffsets would have to be known when the plan is made, which takes a quarter of a second
    that requests would wait.
    """
    file = checkpoint / "sources" / "0" / "0"  # of KafkaSourceInitialOffsetWriter: a zero byte, v1, JSON
    file.parent.mkdir(parents=True)
    document = json.dumps({topic: {str(partition): offset for partition, offset in offsets}})
    file.write_bytes(b"\0v1\n" + document.encode())
