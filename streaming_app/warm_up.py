"""A standby's rehearsal: the very query of serving, over scratch topics.

Without it the first answers after a takeover wait for the JVM to load and compile what they need.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition
from pyspark.sql import SparkSession

from streaming_app.application import check_query
from streaming_app.serving_query import plan_answers, start_query
from streaming_app.settings import ServingSettings
from streaming_app.succession import PreparedModel, flush_producers
from streaming_app.takeovers import NO_GENERATION

log = structlog.get_logger()

_MOST_ROUNDS = 8
_FAST_ENOUGH = 0.6  # seconds from the start of the query to its first answer
_REQUESTS = 1000
_SECONDS_A_ROUND = 60.0


def warm_up(
    spark: SparkSession,
    prepared: PreparedModel,
    settings: ServingSettings,
    checkpoint: Path,
    over: Callable[[], bool],
) -> None:
    """Let the model answer its input example many times, from Kafka to Kafka, until `over`.

    A scratch topic that is missing, or Kafka being away, only makes the first takeover slower.
    """
    scratch = settings.model_copy(
        update={
            "requests_topic": settings.warm_up_requests_topic,
            "predictions_topic": settings.warm_up_predictions_topic,
        }
    )
    try:
        consumer = KafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers)
        producer = KafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers)
        try:
            for place in range(_MOST_ROUNDS):
                if over():
                    break
                folder = checkpoint / f"warm-up-{place}"
                first_answer = _round(spark, prepared, scratch, folder, consumer, producer, over)
                log.info("warmed_up", rounds=place + 1, seconds_to_first_answer=round(first_answer, 2))
                if first_answer < _FAST_ENOUGH:
                    break
        finally:
            consumer.close()
            producer.close(timeout=1)
    except (KafkaError, OSError) as error:
        log.warning("warm_up_ended", reason=f"{type(error).__name__}: {error}"[:300])


def _round(
    spark: SparkSession,
    prepared: PreparedModel,
    scratch: ServingSettings,
    checkpoint: Path,
    consumer: KafkaConsumer,
    producer: KafkaProducer,
    over: Callable[[], bool],
) -> float:
    """Seconds until the first answer of a query; 0 when there are no topics for it."""
    ends = [_ends(consumer, topic) for topic in (scratch.requests_topic, scratch.predictions_topic)]
    if not all(ends):
        log.warning(
            "no_warm_up", missing=[scratch.requests_topic, scratch.predictions_topic], effect="slow takeover"
        )
        return 0.0
    asked, answered = ends
    for number in range(_REQUESTS):
        listing = json.loads(prepared.served.listings[number % len(prepared.served.listings)])
        message = {"type": "price_request", "request_id": f"warm-up-{number}", "listing": listing}
        producer.send(scratch.requests_topic, json.dumps(message).encode(), partition=number % len(asked))
    producer.flush()
    planned = plan_answers(spark, prepared.model, prepared.served.version, NO_GENERATION, scratch)
    began = time.monotonic()
    first: float | None = None
    query = start_query(
        planned, scratch, {partition.partition: end for partition, end in asked.items()}, checkpoint
    )
    try:
        while not over() and time.monotonic() - began < _SECONDS_A_ROUND:
            check_query(query)
            found = sum(_ends(consumer, scratch.predictions_topic).values()) - sum(answered.values())
            first = first or (time.monotonic() - began if found else None)
            if found >= _REQUESTS:
                break
    finally:
        spark.sparkContext.setLogLevel("OFF")  # the tasks that are cut off complain at length
        query.stop()
        flush_producers(spark)
        spark.sparkContext.setLogLevel("WARN")
        shutil.rmtree(checkpoint, ignore_errors=True)
    return first or _SECONDS_A_ROUND


def _ends(consumer: KafkaConsumer, topic: str) -> dict[TopicPartition, int]:
    """The end of each partition; none when there is no such topic."""
    partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
    return {p: int(end) for p, end in consumer.end_offsets(partitions).items()} if partitions else {}
