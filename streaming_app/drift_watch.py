"""Looks at the input drift of the version in service again and again, and tells what it finds."""

import gc
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Literal

import structlog
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from streaming_app.input_drift import FeatureDrift, TrainingDistribution, count_live, drift
from streaming_app.instants import instant
from streaming_app.kafka_access import for_librdkafka, for_spark
from streaming_app.logs import first_line
from streaming_app.model_registry import download
from streaming_app.records import TIMEOUT, reader, topic_partitions
from streaming_app.settings import LiveMetricsSettings
from streaming_app.spark_session import READING
from streaming_app.waiting import NotYetError

log = structlog.get_logger()

Level = Literal["unknown", "steady", "warning", "alarm"]
_FILE = "training_distribution.json"


@dataclass(frozen=True)
class DriftReport:
    """One look: the requests since `window_start` against the training rows of a version."""

    model_version: str
    window_start: str
    window_end: str
    requests: int
    level: Level
    features: tuple[FeatureDrift, ...]


class DriftWatch(Collector):
    """The newest look, for the metrics and the page; the looks are taken in a thread of their own."""

    def __init__(self, settings: LiveMetricsSettings, in_service: Callable[[], str | None]) -> None:
        self._settings = settings
        self._in_service = in_service
        self._trained: dict[str, TrainingDistribution] = {}
        self._newest: DriftReport | None = None

    def now(self) -> DriftReport | None:
        """The newest look; None before the first."""
        return self._newest

    def level(self, index: float) -> Level:
        """What an index means by the settings."""
        if index >= self._settings.drift_alarm:
            return "alarm"
        return "warning" if index >= self._settings.drift_warning else "steady"

    def follow(self, spark: SparkSession, stop: Event) -> None:
        """Look every `drift_every_seconds` until `stop` is set."""
        threading.Thread(target=self._follow, args=(spark, stop), name="drift", daemon=True).start()

    def collect(self) -> Iterator[Metric]:
        """Yield the index of each feature, and the number of requests that were looked at."""
        index = GaugeMetricFamily(
            "usedcars_input_drift",
            "population stability index of the live requests against the training rows",
            labels=["version", "feature"],
        )
        requests = GaugeMetricFamily(
            "usedcars_input_drift_requests", "live requests that were compared", labels=["version"]
        )
        if (report := self._newest) is not None:
            requests.add_metric([report.model_version], report.requests)
            if report.level != "unknown":
                for found in report.features:
                    index.add_metric([report.model_version, found.name], found.index)
        yield from (index, requests)

    def _follow(self, spark: SparkSession, stop: Event) -> None:
        consumer = reader(self._settings, "usedcars-input-drift", "usedcars-input-drift")
        producer = Producer(
            {
                **for_librdkafka(self._settings),
                "client.id": "usedcars-input-drift",
                "log_level": 2,
            }
        )
        trouble = ""
        while not stop.wait(self._settings.drift_every_seconds):
            try:
                if (version := self._in_service()) is not None:
                    self._tell(self.look(spark, consumer, version), producer)
                trouble = ""
            except (NotYetError, KafkaException, PySparkException, Py4JError, OSError) as error:
                reason = first_line(error)
                if reason != trouble:  # a line an outage, not one a look
                    log.warning("drift_unknown", reason=reason)
                trouble = reason
            # A look's plans stay in the JVM until Python has collected the cycles that hold them, for which
            # too little happens in this thread.
            gc.collect()
        consumer.close()

    def look(self, spark: SparkSession, consumer: Consumer, version: str) -> DriftReport:
        """Compare the newest requests of the window, as many as the settings allow, with the training rows.

        Raises NotYetError when the version tells nothing of its training rows or Kafka has no requests
        topic, KafkaException when Kafka is away.
        """
        trained = self._trained_with(version)
        settings = self._settings
        end = datetime.now(UTC)
        begin = end.timestamp() - settings.drift_window_seconds
        partitions = topic_partitions(consumer, settings.requests_topic)
        most = settings.drift_requests // len(partitions)
        asked = consumer.offsets_for_times(
            [TopicPartition(settings.requests_topic, p, int(begin * 1000)) for p in partitions], TIMEOUT
        )
        first, last = {}, {}
        for partition in asked:
            low, high = consumer.get_watermark_offsets(partition, TIMEOUT)
            since = high if partition.offset < 0 else partition.offset
            first[str(partition.partition)] = max(low, since, high - most)
            last[str(partition.partition)] = high
        requests, found = 0, tuple[FeatureDrift, ...]()
        if first != last:  # a look at nothing would cost seconds of a core
            messages = (
                spark.read.format("kafka")
                .options(**for_spark(settings))
                .option("assign", json.dumps({settings.requests_topic: partitions}))
                .option("startingOffsets", json.dumps({settings.requests_topic: first}))
                .option("endingOffsets", json.dumps({settings.requests_topic: last}))
                .options(**READING)
                .load()
            )
            requests, counts = count_live(messages, trained, settings.max_message_bytes)
            found = tuple(drift(trained, counts))
        enough = requests >= settings.drift_least_requests and found
        return DriftReport(
            model_version=version,
            window_start=instant(datetime.fromtimestamp(begin, UTC)),
            window_end=instant(end),
            requests=requests,
            level=self.level(found[0].index) if enough else "unknown",
            features=found,
        )

    def _trained_with(self, version: str) -> TrainingDistribution:
        if version not in self._trained:
            self._trained = {version: _fetch(self._settings, version)}
        return self._trained[version]

    def _tell(self, report: DriftReport, producer: Producer) -> None:
        before, self._newest = self._newest, report
        producer.produce(self._settings.input_drift_topic, json.dumps(asdict(report)), report.model_version)
        producer.flush(TIMEOUT)
        if report.level != "unknown" and report.level != (before.level if before else "steady"):
            worst = report.features[0]
            say = log.info if report.level == "steady" else log.warning
            say(
                f"input_drift_{report.level}",
                version=report.model_version,
                requests=report.requests,
                feature=worst.name,
                index=round(worst.index, 3),
                moved=f"{worst.bin}: {worst.trained_share:.1%} when trained, {worst.live_share:.1%} now",
            )


def _fetch(settings: LiveMetricsSettings, version: str) -> TrainingDistribution:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="usedcars-drift-") as folder:
        path = download(settings, version, Path(folder), _FILE)
        try:
            trained = TrainingDistribution.read(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NotYetError(
                f"{_FILE} of version {version} can't be read: {first_line(error)}; its drift is unknown "
                "until a version with a readable one is in service"
            ) from error
    log.info("training_distribution", version=version, seconds=round(time.monotonic() - began, 1))
    return trained
