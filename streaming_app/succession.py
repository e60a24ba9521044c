"""The next model, made ready beside the one that answers."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any, cast

import structlog
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from streaming_app.health import Status
from streaming_app.logs import first_line
from streaming_app.messages import PriceModel
from streaming_app.model_registry import ServedModel, UnfitModelError, fetch_model, version_with_alias
from streaming_app.serving_query import check_model
from streaming_app.settings import ServingSettings
from streaming_app.spared_cores import spared_cores
from streaming_app.waiting import NotYetError

log = structlog.get_logger()

_SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_SEND = 3.0  # of a query that ends with its process: less than its end may take


@dataclass(frozen=True)
class PreparedModel:
    """A version that is loaded and has priced its own input example.

    `known_code`: by code that was there before, of another version, for the JVM has nothing to warm up with.
    """

    served: ServedModel
    model: PriceModel
    known_code: bool


def prepare_model(spark: SparkSession, settings: ServingSettings, version: str) -> PreparedModel:
    """Fetch, load and check a version.

    Raises UnfitModelError when it can't be served, NotYetError when it can't be fetched now.
    """
    served = fetch_model(settings, version)
    model = served.load(spark)
    before = compilations(spark)
    check_model(spark, model, served, settings)
    return PreparedModel(served, model, known_code=compilations(spark) == before)


def compilations(spark: SparkSession) -> int:
    """How often this JVM has compiled code that Spark generated."""
    metrics = getattr(cast(Any, spark.sparkContext._jvm).org.apache.spark.metrics.source, "CodegenMetrics$")
    return int(getattr(metrics, "MODULE$").METRIC_COMPILATION_TIME().getCount())


class Succession:
    """Follows the alias from a thread of its own, and prepares each version that it comes to name.

    An unfit version is refused once and said on the status; the one that answers goes on.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: ServingSettings,
        status: Status,
        stop: Event,
        rehearse: Callable[[PreparedModel], None],
    ) -> None:
        """`rehearse` warms up with a version of new code before it may take over; without that it takes over
        as well.
        """
        self._spark, self._settings, self._status, self._stop = spark, settings, status, stop
        self._rehearse = rehearse
        self._served = ""
        self._refused = ""
        self._prepared: PreparedModel | None = None
        self._thread = threading.Thread(target=self._follow, name="succession", daemon=True)

    def holds(self, served: ServedModel) -> None:
        """Say which version the process holds; from the first time on the alias is followed."""
        self._served, self._prepared = served.version, None
        if not self._thread.is_alive():
            self._thread.start()

    def next(self) -> PreparedModel | None:
        """The prepared version that the alias names, None while the process holds that one."""
        return self._prepared

    def _follow(self) -> None:
        said = ""
        with spared_cores(self._spark):
            while not self._stop.wait(_SECONDS_BETWEEN_LOOKS):
                try:
                    self._look()
                    said = ""
                except (NotYetError, OSError, Py4JError) as error:
                    reason = str(error)[:300]
                    if reason != said:  # a line an outage, not one a second of it
                        log.warning("successor_unknown", reason=reason)
                    said = reason

    def _look(self) -> None:
        version = version_with_alias(self._settings)
        if version == self._served:
            self._prepared = None  # it was put back before its successor took over
        elif version != self._refused and (
            self._prepared is None or version != self._prepared.served.version
        ):
            self._prepare(version)

    def _prepare(self, version: str) -> None:
        log.info("preparing_model", version=version)
        began = time.monotonic()
        try:
            prepared = prepare_model(self._spark, self._settings, version)
        except UnfitModelError as error:
            self._refused = version
            self._status.refuse(version, str(error))
            log.error("unfit_model", reason=str(error))
        else:
            if not prepared.known_code:
                self._warm_up(prepared)
            log.info(
                "prepared_model",
                version=version,
                seconds=round(time.monotonic() - began, 2),
                known_code=prepared.known_code,
            )
            if version_with_alias(self._settings) == version:
                self._prepared = prepared

    def _warm_up(self, prepared: PreparedModel) -> None:
        try:
            self._rehearse(prepared)
        except Exception as error:  # of Spark in many forms, for instance as the one that answers stops
            log.warning("warm_up_ended", reason=first_line(error), effect="slow takeover")


def close_producers(spark: SparkSession, query: str, within: float) -> None:
    """Have all that a stopped query has sent in the log, or given up after `within` seconds.

    Spark's sink keeps its Kafka producers, here those with the query's name, and they retry for as long as
    Kafka is away. What one of them sent later would come behind the tail of the log from which the next
    query's start is read, and be answered twice.
    """
    jvm = cast(Any, spark.sparkContext._jvm)
    # Spark's own reset() closes the producers of all queries, and waits for Kafka without a limit.
    pools = getattr(jvm.org.apache.spark.sql.kafka010.producer, "InternalKafkaProducerPool$")
    pool = getattr(pools, "MODULE$")
    field = pool.getClass().getDeclaredField("pool")
    field.setAccessible(True)
    entries = field.get(pool).getAsMap().iterator()
    limit = jvm.java.time.Duration.ofMillis(int(within * 1000))
    own = jvm.scala.Tuple2("client.id", query)
    while entries.hasNext():
        entry = entries.next()
        if entry._1().contains(own):
            entry._2().producer().producer().close(limit)
