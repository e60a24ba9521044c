"""A rehearsal of a standby, or of the next version: the very query of serving, over scratch topics.

Without it the first answers after a takeover wait for the JVM to load and compile what they need.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import structlog
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from pyspark.sql import SparkSession

from streaming_app.application import check_query
from streaming_app.gate import Gate
from streaming_app.kafka_access import for_librdkafka
from streaming_app.records import TIMEOUT, connect, topic_partitions
from streaming_app.serving_query import plan_answers, start_query
from streaming_app.settings import ServingSettings
from streaming_app.succession import SECONDS_TO_SEND, PreparedModel, close_producers
from streaming_app.takeovers import NO_GENERATION
from streaming_app.waiting import NotYetError

log = structlog.get_logger()

_MOST_ROUNDS = 8
_MOST_ROUNDS_BESIDE = 2
_FAST_ENOUGH = 0.6  # seconds from the start of the query to its first answer
_REQUESTS = 1000
_SECONDS_A_ROUND = 60.0


def warm_up(
    spark: SparkSession,
    prepared: PreparedModel,
    settings: ServingSettings,
    checkpoint: Path,
    over: Callable[[], bool],
    *,
    beside: bool = False,
) -> None:
    """Let the model answer its input example many times, from Kafka to Kafka, until `over`.

    `beside` the version that answers it takes one core. A scratch topic that is missing, or Kafka being away,
    only makes the first takeover slower.
    """
    scratch = settings.model_copy(
        update={
            "requests_topic": settings.warm_up_requests_topic,
            "predictions_topic": settings.warm_up_predictions_topic,
        }
    )
    try:
        with closing(
            connect(settings, "usedcars-warm-up", settings.serving_group, "read_uncommitted")
        ) as consumer:
            for place in range(_MOST_ROUNDS_BESIDE if beside else _MOST_ROUNDS):
                folder = checkpoint / f"warm-up-{place}"
                first_answer = (
                    None if over() else _round(spark, prepared, scratch, folder, consumer, over, beside)
                )
                if first_answer is None:
                    break
                log.info(
                    "warmed_up",
                    version=prepared.served.version,
                    rounds=place + 1,
                    seconds_to_first_answer=round(first_answer, 2),
                )
                if first_answer < _FAST_ENOUGH:
                    break
    except (KafkaException, NotYetError) as error:
        log.warning("warm_up_ended", reason=str(error)[:300], effect="slow takeover")


def _round(
    spark: SparkSession,
    prepared: PreparedModel,
    scratch: ServingSettings,
    checkpoint: Path,
    consumer: Consumer,
    over: Callable[[], bool],
    beside: bool,
) -> float | None:
    """Seconds until the first answer of a query; None when it was over before.

    Raises NotYetError when there are no topics for it.
    """
    asked, answered = (
        _ends(consumer, topic, topic_partitions(consumer, topic)[: 1 if beside else None])
        for topic in (scratch.requests_topic, scratch.predictions_topic)
    )
    _ask(scratch, prepared, len(asked))
    gate = Gate(spark, list(asked))
    planned = plan_answers(
        spark, prepared.model, prepared.served.version, NO_GENERATION, list(asked), scratch, gate
    )
    gate.open(asked)
    began = time.monotonic()
    first: float | None = None
    query = start_query(planned, scratch, asked, checkpoint, gate.name)
    try:
        while not over() and time.monotonic() - began < _SECONDS_A_ROUND:
            check_query(query)
            ends = _ends(consumer, scratch.predictions_topic, answered)
            found = sum(ends.values()) - sum(answered.values())
            first = first or (time.monotonic() - began if found else None)
            if found >= _REQUESTS:
                break
    finally:
        spark.sparkContext.setLogLevel("OFF")  # the tasks that are cut off complain at length
        gate.close()
        query.stop()
        close_producers(spark, gate.name, SECONDS_TO_SEND)
        spark.sparkContext.setLogLevel("WARN")
        shutil.rmtree(checkpoint, ignore_errors=True)
    return first


def _ask(scratch: ServingSettings, prepared: PreparedModel, partitions: int) -> None:
    producer = Producer(
        {
            **for_librdkafka(scratch),
            "client.id": "usedcars-warm-up",
            "log_level": 2,
        }
    )
    for number in range(_REQUESTS):
        listing = json.loads(prepared.served.listings[number % len(prepared.served.listings)])
        message = {"type": "price_request", "request_id": f"warm-up-{number}", "listing": listing}
        producer.produce(scratch.requests_topic, json.dumps(message), partition=number % partitions)
    if producer.flush(TIMEOUT):
        raise NotYetError("Kafka takes no requests")


def _ends(consumer: Consumer, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), TIMEOUT)[1] for p in partitions}
