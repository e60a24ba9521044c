"""The live metrics of the last day, and the takeovers, followed from Kafka for the manager's page.

Both topics have one partition.
"""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from streaming_app.live_metrics_query import ALL_VERSIONS
from streaming_app.records import reader
from streaming_app.settings import KafkaSettings
from streaming_app.takeovers import Takeover, read_takeover

log = structlog.get_logger()

KEPT = timedelta(hours=24)
# A record a second and version, while prices come: twelve hours of two versions, or a day of the last one.
_RECORDS_LOOKED_BACK = 200_000
_TAKEOVERS_LOOKED_BACK = 1_000
_TIMEOUT = 5.0


@dataclass(frozen=True)
class Point:
    """The figures of one version in one window; USD, `mape` a fraction."""

    version: str
    at: datetime  # the end of the window, or the last update before it
    count: int
    mae: float
    mape: float
    bias: float
    rmse: float
    coverage: float | None  # the share of the prices inside their intervals
    window: timedelta


@dataclass(frozen=True, eq=False)
class History:
    """What has been published, by version and in the order of time."""

    points: Mapping[str, tuple[Point, ...]]
    takeovers: tuple[Takeover, ...]
    trouble: str | None = None  # why nothing new is known

    def since(self, begin: datetime) -> "History":
        """The history from a time on, and the last takeover before: its version answered then."""
        before = tuple(t for t in self.takeovers if began(t) < begin)
        points = {version: tuple(p for p in of if p.at >= begin) for version, of in self.points.items()}
        return History(
            {version: of for version, of in points.items() if of},
            self.takeovers[max(0, len(before) - 1) :],
            self.trouble,
        )

    @property
    def in_service(self) -> str | None:
        """The version that answers, by the last takeover."""
        return self.takeovers[-1].version if self.takeovers else None


def began(takeover: Takeover) -> datetime:
    """When a takeover began."""
    return datetime.fromisoformat(takeover.began_at)


def read_point(value: bytes | None) -> tuple[str, Point] | None:
    """The window's start and the figures of a live metrics record; None when it is something else."""
    try:
        figures: dict[str, Any] = json.loads(value or b"")
        start, end, updated = (
            datetime.fromisoformat(figures[name]) for name in ("window_start", "window_end", "updated_at")
        )
        coverage = figures.get("interval_coverage")
        return str(figures["window_start"]), Point(
            version=str(figures["model_version"]),
            at=min(end, updated),
            count=int(figures["count"]),
            **{name: float(figures[name]) for name in ("mae", "mape", "bias", "rmse")},
            coverage=None if coverage is None else float(coverage),
            window=end - start,
        )
    except (ValueError, TypeError, KeyError):
        return None


class LiveHistory:
    """Follows the topics of live metrics and takeovers with a thread of its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._points: dict[tuple[str, str], Point] = {}  # by version and window; the last update counts
        self._takeovers: list[Takeover] = []
        self._history = History({}, ())
        self._thread = threading.Thread(target=self._follow, name="history", daemon=True)

    def follow(self) -> None:
        """Begin to read: the last day, at most 200,000 records of it, then what comes."""
        self._thread.start()

    def now(self) -> History:
        """What is known at this moment; the same object as long as nothing changes."""
        return self._history

    def _follow(self) -> None:
        # Only this thread may use the consumer.
        consumer = reader(self._settings, "usedcars-live-history", "usedcars-live-history")
        begin: list[TopicPartition] = []
        while True:
            try:
                if not begin:
                    begin = self._beginnings(consumer)
                    consumer.assign(begin)
                records = consumer.consume(10_000, 1.0)
                if not records:
                    consumer.get_watermark_offsets(begin[0], _TIMEOUT)  # silent, or away?
                if self._take(records) or self._history.trouble:
                    self._history = self._snapshot(None)
            except KafkaException as error:
                if self._history.trouble is None:
                    log.warning("history_unread", reason=str(error)[:300])
                reason = error.args[0].str() if error.args else type(error).__name__
                self._history = self._snapshot(
                    f"Kafka at {self._settings.kafka_bootstrap_servers} does not deliver: {reason}"
                )
                time.sleep(1)

    def _beginnings(self, consumer: Consumer) -> list[TopicPartition]:
        """A day ago, or later when that is too much; takeovers, which are few, from long before."""
        day_ago = int((time.time() - KEPT.total_seconds()) * 1000)
        topic = self._settings.live_metrics_topic
        first, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), _TIMEOUT)
        (found,) = consumer.offsets_for_times([TopicPartition(topic, 0, day_ago)], _TIMEOUT)
        offset = found.offset if found.offset >= 0 else end
        takeovers = self._settings.takeovers_topic
        first_takeover, end_of_takeovers = consumer.get_watermark_offsets(
            TopicPartition(takeovers, 0), _TIMEOUT
        )
        return [
            TopicPartition(topic, 0, max(first, offset, end - _RECORDS_LOOKED_BACK)),
            TopicPartition(takeovers, 0, max(first_takeover, end_of_takeovers - _TAKEOVERS_LOOKED_BACK)),
        ]

    def _take(self, records: list[Message]) -> bool:
        """Whether anything new was among the records."""
        new = False
        for record in records:
            if record.error() is not None:
                continue
            if record.topic() == self._settings.takeovers_topic:
                takeover = read_takeover(record.value())
                if takeover is not None:
                    self._takeovers.append(takeover)
                    new = True
            elif (read := read_point(record.value())) is not None:
                start, point = read
                self._points[point.version, start] = point
                new = True
        return new

    def _snapshot(self, trouble: str | None) -> History:
        begin = datetime.now(UTC) - KEPT
        self._points = {key: point for key, point in self._points.items() if point.at >= begin}
        points: dict[str, list[Point]] = {}
        for point in sorted(self._points.values(), key=lambda point: point.at):
            points.setdefault(point.version, []).append(point)
        return History(
            {version: tuple(points[version]) for version in sorted(points, key=_version_order)},
            tuple(self._takeovers),
            trouble,
        )


def _version_order(version: str) -> tuple[bool, int, str]:
    """By number; all versions together last."""
    return version == ALL_VERSIONS, int(version) if version.isdigit() else 0, version
