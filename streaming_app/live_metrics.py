"""The live metrics process: measures the answered prices by those set later, and copies dead letters.

Run by `python -m streaming_app.live_metrics`; settings are environment variables (streaming_app.settings).
"""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Event
from typing import Any

import structlog
from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pyspark.sql import SparkSession

from streaming_app.application import run_application, running, watch_queries
from streaming_app.dead_letters import start_dead_letters
from streaming_app.drift_watch import DriftWatch
from streaming_app.health import Status
from streaming_app.kafka_access import for_kafka_python
from streaming_app.live_history import LiveHistory
from streaming_app.live_metrics_query import ALL_VERSIONS, start_live_metrics
from streaming_app.live_page import pages
from streaming_app.settings import LiveMetricsSettings, from_environment
from streaming_app.spark_session import start_spark
from streaming_app.waiting import NotYetError, wait_for

log = structlog.get_logger()

_FIGURES = {
    "count": "prices set in time in the window for cars that had been answered",
    "mae": "mean absolute error, USD",
    "rmse": "root of the mean square error, USD",
    "mape": "mean absolute error relative to the price set",
    "bias": "mean of answered minus set price, USD",
    "median_absolute_error": "median absolute error, USD",
    "r2": "share of the variance of the set prices that the answers explain",
    "interval_coverage": "share of the prices that lie in the interval that was answered",
    "priced_share": "share of the window's answered requests that have got a price so far",
    "delay_mean": "mean time from the answer to the price, seconds",
    "delay_p50": "median time from the answer to the price, seconds",
    "delay_p90": "0.9 quantile of the time from the answer to the price, seconds",
    "delay_p99": "0.99 quantile of the time from the answer to the price, seconds",
}
_OUTCOMES_OF_VERSIONS = ("count", "late", "rejected")
_OUTCOMES = (*_OUTCOMES_OF_VERSIONS, "behind_watermark", "duplicates", "contradictory")
_RECORDS_LOOKED_BACK = 200
# Small batches, each planned anew: the second compiler is to take only what long proves hot, else it keeps
# the cores busy for the first minutes.
_JVM_OPTIONS = (
    "-XX:+UseParallelGC -XX:ReservedCodeCacheSize=240m "
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000 "
    "-XX:Tier4CompileThreshold=150000 -XX:Tier4BackEdgeThreshold=400000"
)


class LiveFigures(Collector):
    """The newest published figures of each model version, of a window and since the beginning."""

    def __init__(self) -> None:
        self._newest: dict[str, dict[str, Any]] = {}
        self._totals: dict[str, dict[str, Any]] = {}

    def published(self, figures: dict[str, Any]) -> None:
        """Take note of published figures."""
        version = figures["model_version"]
        if figures["window_end"] is None:
            self._totals[version] = figures
        elif version not in self._newest or self._newest[version]["window_end"] <= figures["window_end"]:
            self._newest[version] = figures

    def collect(self) -> Iterator[Metric]:
        """Yield a gauge for each figure of the window, with the version as its label, and the totals."""
        newest, totals = dict(self._newest), dict(self._totals)
        for name, says in _FIGURES.items():
            gauge = GaugeMetricFamily(f"usedcars_live_{name}", says, labels=["version"])
            for version, figures in newest.items():
                if figures.get(name) is not None:
                    gauge.add_metric([version], figures[name])
            yield gauge
        prices = CounterMetricFamily(
            "usedcars_live_prices", "set prices by what became of them", labels=["version", "outcome"]
        )
        requests = CounterMetricFamily(
            "usedcars_live_requests", "requests answered with a price", labels=["version"]
        )
        priced = CounterMetricFamily(
            "usedcars_live_requests_priced", "requests whose price was set in time", labels=["version"]
        )
        orphans = GaugeMetricFamily("usedcars_live_orphans", "set prices that no answer is known of, so far")
        if ALL_VERSIONS in totals:
            orphans.add_metric([], totals[ALL_VERSIONS]["orphans"])
        for version, figures in totals.items():
            for outcome in _OUTCOMES if version == ALL_VERSIONS else _OUTCOMES_OF_VERSIONS:
                prices.add_metric([version, "in_time" if outcome == "count" else outcome], figures[outcome])
            requests.add_metric([version], figures["requests"])
            priced.add_metric([version], figures["requests_priced"])
        yield from (prices, requests, priced, orphans)


def measure(
    settings: LiveMetricsSettings, figures: LiveFigures, drift: DriftWatch, stop: Event, status: Status
) -> None:
    """Wait for Kafka and its topics, then publish live metrics until `stop` is set."""
    consumer = wait_for(lambda: _connect(settings), stop, (KafkaError, OSError), report=status.not_ready)
    threading.Thread(target=_follow, args=(consumer, figures, stop), name="figures", daemon=True).start()
    spark = start_spark(
        "usedcars-live-metrics",
        settings.live_metrics_spark_master,
        settings.live_metrics_spark_driver_memory,
        settings.spark_jars,
        _JVM_OPTIONS,
    )
    _keep_state_beside_the_heap(spark)
    with ExitStack() as queries:
        started = [start_live_metrics(spark, settings), start_dead_letters(spark, settings)]
        for query in started:
            queries.enter_context(running(spark, query, status))
        log.info("measuring", window=settings.live_metrics_window, state=settings.checkpoint(""))
        status.ready()
        drift.follow(spark, stop)
        watch_queries(started, stop)


def _keep_state_beside_the_heap(spark: SparkSession) -> None:
    """Answers wait for hours for their price, too many for the heap; and batches must be short."""
    for name, value in {
        # Batches of a second are short of time, not of data: every further partition costs more tasks.
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.streaming.stateStore.providerClass": (
            "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
        ),
        # A batch writes what it changed, and not the files of each store.
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
        # What has become too old is dropped by the next batch with data; nothing is told by its end.
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        # Of the answers that wait for a price a batch finds those whose time is over by an index, instead of
        # looking at all. SPARK-55628, in Spark 4.2 not yet the default.
        "spark.sql.streaming.join.stateFormatVersion": "4",
        "spark.sql.streaming.join.stateFormatV4.enabled": "true",
    }.items():
        spark.conf.set(name, value)


def _connect(settings: LiveMetricsSettings) -> KafkaConsumer:
    consumer = KafkaConsumer(
        **for_kafka_python(settings),
        client_id="usedcars-live-figures",
        enable_auto_commit=False,
    )
    topics = consumer.topics()
    for topic in (
        settings.requests_topic,
        settings.predictions_topic,
        settings.takeovers_topic,
        settings.live_metrics_topic,
        settings.live_totals_topic,
        settings.dead_letters_topic,
        settings.input_drift_topic,
    ):
        if topic not in topics:
            consumer.close()
            raise NotYetError(f"Kafka has no topic {topic} yet")
    published = [
        TopicPartition(topic, p)
        for topic in (settings.live_metrics_topic, settings.live_totals_topic)
        for p in consumer.partitions_for_topic(topic)
    ]
    consumer.assign(published)
    beginnings = consumer.beginning_offsets(published)
    for partition, end in consumer.end_offsets(published).items():
        # The totals are compacted: the newest of a version that has long ended may be the first record.
        back = _RECORDS_LOOKED_BACK if partition.topic == settings.live_metrics_topic else end
        consumer.seek(partition, max(beginnings[partition], end - back))
    return consumer


def _follow(consumer: KafkaConsumer, figures: LiveFigures, stop: Event) -> None:
    while not stop.is_set():
        try:
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    figures.published(json.loads(record.value))
        except (KafkaError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("figures_unread", reason=str(error)[:300])
            stop.wait(1)


def main() -> None:
    """Measure until SIGTERM or SIGINT."""
    settings = from_environment(LiveMetricsSettings)
    figures = LiveFigures()
    history = LiveHistory(settings)
    history.follow()
    drift = DriftWatch(settings, lambda: history.now().in_service)
    run_application(
        settings,
        settings.live_metrics_port,
        [figures, drift],
        lambda stop, status: measure(settings, figures, drift, stop, status),
        pages(history.now, drift.now),
    )


if __name__ == "__main__":
    main()
