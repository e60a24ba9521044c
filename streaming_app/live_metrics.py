"""The live metrics process: measures the answered prices by those set later.

Run by `python -m streaming_app.live_metrics`; settings are environment variables (streaming_app.settings).
"""

import json
import threading
from collections.abc import Iterator
from threading import Event
from typing import Any

import structlog
from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streaming_app.application import run_application, running, watch_query
from streaming_app.health import Status
from streaming_app.live_history import LiveHistory
from streaming_app.live_metrics_query import start_query
from streaming_app.live_page import pages
from streaming_app.settings import LiveMetricsSettings
from streaming_app.spark_session import start_spark
from streaming_app.waiting import NotYetError, wait_for

log = structlog.get_logger()

_FIGURES = {
    "count": "prices set in the window for cars that had been answered",
    "mae": "mean absolute error, USD",
    "rmse": "root of the mean square error, USD",
    "mape": "mean absolute error relative to the price set",
    "bias": "mean of answered minus set price, USD",
    "median_absolute_error": "median absolute error, USD",
    "r2": "share of the variance of the set prices that the answers explain",
}
_RECORDS_LOOKED_BACK = 200


class LiveFigures(Collector):
    """The newest published figures of each model version."""

    def __init__(self) -> None:
        self._newest: dict[str, dict[str, Any]] = {}

    def published(self, figures: dict[str, Any]) -> None:
        """Take note of published figures."""
        before = self._newest.get(figures["model_version"])
        if before is None or before["window_end"] <= figures["window_end"]:
            self._newest[figures["model_version"]] = figures

    def collect(self) -> Iterator[Metric]:
        """Yield a gauge for each figure, with the version as its label."""
        newest = dict(self._newest)
        for name, says in _FIGURES.items():
            gauge = GaugeMetricFamily(f"usedcars_live_{name}", says, labels=["version"])
            for version, figures in newest.items():
                if figures.get(name) is not None:
                    gauge.add_metric([version], figures[name])
            yield gauge


def measure(settings: LiveMetricsSettings, figures: LiveFigures, stop: Event, status: Status) -> None:
    """Wait for Kafka and its topics, then publish live metrics until `stop` is set."""
    consumer = wait_for(lambda: _connect(settings), stop, (KafkaError, OSError), report=status.not_ready)
    threading.Thread(target=_follow, args=(consumer, figures, stop), name="figures", daemon=True).start()
    spark = start_spark(
        "usedcars-live-metrics",
        settings.live_metrics_spark_master,
        settings.live_metrics_spark_driver_memory,
        settings.spark_jars,
    )
    spark.conf.set("spark.sql.shuffle.partitions", "2")
    # Answers wait an hour for their price: too many for the heap, so the state is kept beside it.
    spark.conf.set(
        "spark.sql.streaming.stateStore.providerClass",
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
    )
    query = start_query(spark, settings)
    log.info("measuring", window=settings.live_metrics_window, checkpoint=str(settings.checkpoint))
    with running(spark, query, status):
        status.ready()
        watch_query(query, stop)


def _connect(settings: LiveMetricsSettings) -> KafkaConsumer:
    consumer = KafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        client_id="usedcars-live-figures",
        enable_auto_commit=False,
    )
    topics = consumer.topics()
    for topic in (settings.requests_topic, settings.predictions_topic, settings.live_metrics_topic):
        if topic not in topics:
            consumer.close()
            raise NotYetError(f"Kafka has no topic {topic} yet")
    published = [
        TopicPartition(settings.live_metrics_topic, p)
        for p in consumer.partitions_for_topic(settings.live_metrics_topic)
    ]
    consumer.assign(published)
    beginnings = consumer.beginning_offsets(published)
    for partition, end in consumer.end_offsets(published).items():
        consumer.seek(partition, max(beginnings[partition], end - _RECORDS_LOOKED_BACK))
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
    settings = LiveMetricsSettings()
    figures = LiveFigures()
    history = LiveHistory(settings)
    history.follow()
    run_application(
        settings,
        settings.live_metrics_port,
        figures,
        lambda stop, status: measure(settings, figures, stop, status),
        pages(history.now),
    )


if __name__ == "__main__":
    main()
