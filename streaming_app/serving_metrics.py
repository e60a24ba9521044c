"""Figures of the serving process for Prometheus."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from py4j.protocol import Py4JError
from pyspark.sql.streaming.query import StreamingQuery

from streaming_app.answer_figures import AnswerFigures
from streaming_app.output_log import Progress


class ServingMetrics(Collector):
    """Collects on demand what the process, the topics and Spark tell."""

    def __init__(self) -> None:
        self.answers = AnswerFigures()
        self._query: StreamingQuery | None = None
        self._version = ""
        self._stands_by = False
        self._progress: Progress | None = None

    def started(self, query: StreamingQuery, version: str) -> None:
        """Say which query runs with which model version."""
        self._query, self._version, self._stands_by = query, version, False

    def stood_by(self, version: str) -> None:
        """Say that the process is ready to answer with this model version."""
        self._version, self._stands_by = version, True

    def progressed(self, progress: Progress) -> None:
        """Say how far the answers have come."""
        self._progress = progress

    def stopped(self) -> None:
        """Say that the query no longer runs."""
        self._query = None

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of this moment."""
        query, progress = self._query, self._progress
        roles = {"active": query is not None, "standby": query is None and self._stands_by}
        yield _gauge("active", "1 while requests are answered", int(roles["active"]))
        yield _gauge("standby", "1 while ready to answer when the active process ends", int(roles["standby"]))
        model = GaugeMetricFamily(
            "usedcars_serving_model",
            "1 for the model version that the process holds",
            labels=["version", "role"],
        )
        for role, held in roles.items():
            if held:
                model.add_metric([self._version, role], 1)
        yield model
        if query is not None:
            yield from _of_the_last_batch(query)
        if progress is not None:
            yield CounterMetricFamily(
                "usedcars_requests_messages",
                "messages ever sent to the requests topic",
                value=sum(progress.end_offsets.values()),
            )
            yield CounterMetricFamily(
                "usedcars_predictions_messages", "answers ever given", value=progress.answers
            )
            yield _gauge("lag_messages", "messages behind the last answer", progress.lag)
            offsets = GaugeMetricFamily(
                "usedcars_serving_next_offset",
                "offset of the first message behind the last answered one",
                labels=["partition"],
            )
            for partition, offset in progress.next_offsets.items():
                offsets.add_metric([str(partition)], offset)
            yield offsets
        yield from self.answers.collect()


def _of_the_last_batch(query: StreamingQuery) -> Iterator[Metric]:
    try:
        last = query.lastProgress
    except (Py4JError, OSError):  # the JVM is gone; the main thread says so
        return
    if last is not None:
        yield _gauge("batch_number", "number of the last finished real-time batch of the query", last.batchId)
        yield _gauge("batch_rows", "messages read by the last finished real-time batch", last.numInputRows)
        yield _gauge("batch_rows_per_second", "its rate of messages", last.processedRowsPerSecond)
        yield _gauge("batch_seconds", "its length", last.durationMs.get("triggerExecution", 0) / 1000)


def _gauge(name: str, says: str, value: Any) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"usedcars_serving_{name}", says, value=value)
