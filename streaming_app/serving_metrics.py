"""Figures of the serving process for Prometheus."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from py4j.protocol import Py4JError
from pyspark.sql.streaming.query import StreamingQuery

from streaming_app.output_log import Progress


class ServingMetrics(Collector):
    """Collects on demand what the process, the topics and Spark tell."""

    def __init__(self) -> None:
        self._query: StreamingQuery | None = None
        self._version = ""
        self._progress: Progress | None = None

    def started(self, query: StreamingQuery, version: str) -> None:
        """Say which query runs with which model version."""
        self._query, self._version = query, version

    def progressed(self, progress: Progress) -> None:
        """Say how far the answers have come."""
        self._progress = progress

    def stopped(self) -> None:
        """Say that the query no longer runs."""
        self._query = None

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of this moment."""
        query, progress = self._query, self._progress
        yield _gauge("active", "1 while requests are answered", 0 if query is None else 1)
        if query is not None:
            model = GaugeMetricFamily(
                "usedcars_serving_model", "the model version in service", labels=["version"]
            )
            model.add_metric([self._version], 1)
            yield model
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


def _of_the_last_batch(query: StreamingQuery) -> Iterator[Metric]:
    try:
        last = query.lastProgress
    except (Py4JError, OSError):  # the JVM is gone; the main thread says so
        return
    if last is not None:
        yield _gauge("batch_rows", "messages read by the last finished real-time batch", last.numInputRows)
        yield _gauge("batch_rows_per_second", "its rate of messages", last.processedRowsPerSecond)
        yield _gauge("batch_seconds", "its length", last.durationMs.get("triggerExecution", 0) / 1000)


def _gauge(name: str, says: str, value: Any) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"usedcars_serving_{name}", says, value=value)
