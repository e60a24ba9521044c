"""What became of the requests: rejections by reason, and how long the answers took, read from the answers.

Read by a thread beside the query, so that no request waits for a figure. It reads a bounded number of answers
a second and steps over the rest, which it counts (docs/decisions/016-figures-from-the-answers.md).
"""

import json
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import accumulate
from threading import Event

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streaming_app.records import reader
from streaming_app.settings import ServingSettings

log = structlog.get_logger()

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram, in seconds; around those that serving is held to."""

ANSWERS_A_SECOND = 2_000
"""How many answers are read a second, shared by the partitions."""

_SECONDS_A_ROUND = 1.0
_READ_SECONDS = 5.0
_TIMEOUT = 5.0


class AnswerFigures(Collector):
    """The figures of the answers that were looked at."""

    def __init__(self) -> None:
        self._kinds: Counter[tuple[str, str]] = Counter()
        self._unread = 0
        self._in_bucket = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def read(self, value: bytes | None, answered_ms: int) -> None:
        """Count an answer, by its record's value and time (milliseconds since the epoch)."""
        try:
            answer = json.loads(value or b"")
            kind = str(answer["type"])
            took = max(0.0, answered_ms / 1000 - datetime.fromisoformat(answer["received_at"]).timestamp())
        except (ValueError, TypeError, KeyError):
            return  # from before answers told when their request was received
        self._kinds[kind, str(answer["reason"]) if kind == "rejection" else ""] += 1
        self._in_bucket[bisect_left(BUCKETS, took)] += 1
        self._seconds += took

    def step_over(self, answers: int) -> None:
        """Count answers that nobody looked at."""
        self._unread += answers

    def collect(self) -> Iterator[Metric]:
        """Yield the counts so far."""
        kinds = dict(self._kinds)
        rejections = CounterMetricFamily(
            "usedcars_serving_rejections", "rejections among the read answers", labels=["reason"]
        )
        for (kind, reason), count in kinds.items():
            if kind == "rejection":
                rejections.add_metric([reason], count)
        yield rejections
        yield CounterMetricFamily(
            "usedcars_serving_answers_read",
            "answers of this process that the figures of rejections and latency are made from",
            value=sum(kinds.values()),
        )
        yield CounterMetricFamily(
            "usedcars_serving_answers_unread",
            "answers that were stepped over because they came too fast to read each",
            value=self._unread,
        )
        bounds = [*map(str, BUCKETS), "+Inf"]
        yield HistogramMetricFamily(
            "usedcars_serving_latency_seconds",
            "from the time of the request's Kafka record to that of its answer's, of the read answers",
            buckets=list(zip(bounds, accumulate(self._in_bucket), strict=True)),
            sum_value=self._seconds,
        )


class AnswerReader:
    """Reads what this process answers, while it answers."""

    def __init__(self, settings: ServingSettings, figures: AnswerFigures, stop: Event) -> None:
        self._settings, self._figures, self._stop = settings, figures, stop
        self._begin_at: dict[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name="answer-figures", daemon=True)

    def begin(self, answers_from: Mapping[int, int]) -> None:
        """Read from these offsets of the predictions topic on; go on where it is when it reads them."""
        if self._begin_at is None or set(self._begin_at) != set(answers_from):
            self._begin_at = dict(answers_from)
        if not self._thread.is_alive():
            self._thread.start()

    def end(self) -> None:
        """Read no more: another process answers."""
        self._begin_at = None

    def _run(self) -> None:
        # Only this thread may use the consumer.
        consumer = reader(
            self._settings,
            "usedcars-answer-figures",
            self._settings.serving_group,
            # Fetch not much more than is read.
            {"queued.min.messages": ANSWERS_A_SECOND, "queued.max.messages.kbytes": 1024},
        )
        position: dict[int, int] = {}
        reading: dict[int, int] | None = None
        while not self._stop.wait(_SECONDS_A_ROUND):
            if self._begin_at is not reading:
                reading = self._begin_at
                position = dict(reading or {})
            try:
                if position:
                    position = read_round(consumer, self._settings, position, self._figures)
            except KafkaException as error:
                log.debug("answers_unread", reason=str(error)[:300])  # the books say that Kafka is away
        consumer.close()


def read_round(
    consumer: Consumer, settings: ServingSettings, position: Mapping[int, int], figures: AnswerFigures
) -> dict[int, int]:
    """Read the newest answers behind `position` (partition to offset), at most ANSWERS_A_SECOND.

    Returns the new position. Raises KafkaException when Kafka does not answer.
    """
    topic = settings.predictions_topic
    share = ANSWERS_A_SECOND // len(position)
    begin, end = {}, {}
    for p, at in position.items():
        first, end[p] = consumer.get_watermark_offsets(TopicPartition(topic, p), _TIMEOUT)
        begin[p] = max(min(at, end[p]), end[p] - share, first)
    figures.step_over(sum(max(0, begin[p] - at) for p, at in position.items()))
    consumer.assign([TopicPartition(topic, p, begin[p]) for p in position if begin[p] < end[p]])
    try:
        left = sum(end[p] - begin[p] for p in position)
        while left > 0:
            found: list[Message] = consumer.consume(min(left, 1000), _READ_SECONDS)
            if not found:
                break  # Kafka has become slow; the rest comes with the next round or is stepped over
            for record in found:
                place, offset = record.partition(), record.offset()
                if record.error() is None and place in end and offset is not None and offset < end[place]:
                    figures.read(record.value(), record.timestamp()[1])
                    begin[place] = offset + 1
                    left -= 1
    finally:
        consumer.unassign()
    return begin
