"""The serving process: answers price requests with the model that carries the serving alias.

Run by `python -m streaming_app.serving`; settings are environment variables (streaming_app.settings).
"""

import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event

import structlog
from kafka.errors import KafkaError
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_app.application import check_query, end_query, run_application
from streaming_app.checkpoints import clear_left_checkpoints, new_checkpoint
from streaming_app.health import Status
from streaming_app.model_registry import UnfitModelError, fetch_model, find_version, remember_served
from streaming_app.output_log import OutputLog, TopicsError
from streaming_app.serving_metrics import ServingMetrics
from streaming_app.serving_query import start_query
from streaming_app.settings import ServingSettings
from streaming_app.spark_session import start_spark
from streaming_app.succession import PreparedModel, Succession, flush_producers, prepare_model
from streaming_app.waiting import NotYetError, StoppedError, wait_for

log = structlog.get_logger()

_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_BETWEEN_FLOORS = 10.0


def serve(settings: ServingSettings, metrics: ServingMetrics, stop: Event, status: Status) -> None:
    """Wait for Kafka and a model, then answer until `stop` is set.

    A version to which the alias moves is prepared while the former one answers, and takes over from it
    between two requests.

    Raises StoppedError when stopped while waiting; TopicsError, MissingJarsError and QueryFailedError when
    serving can't be.
    """
    output_log = wait_for(lambda: _connect(settings), stop, (KafkaError, OSError), report=status.not_ready)
    spark, prepared = _first_model(settings, stop, status)
    succession = Succession(spark, settings, status, stop)
    _check_cores(spark, settings, output_log.partitions())
    # A process that was killed may have a JVM left that answers on for a moment: the log is read after it.
    wait_for(partial(clear_left_checkpoints, settings.checkpoint_folder), stop, (), longest_pause=0.25)
    checkpoints = new_checkpoint(settings.checkpoint_folder, spark)
    threading.Thread(target=_keep_books, args=(stop, settings, metrics), name="books", daemon=True).start()
    try:
        for place in count():
            checkpoint = checkpoints / str(place)
            prepared = _answer(
                settings, stop, status, metrics, output_log, spark, prepared, checkpoint, succession
            )
    finally:
        shutil.rmtree(checkpoints, ignore_errors=True)


def _connect(settings: ServingSettings) -> OutputLog:
    output_log = OutputLog(settings)
    try:
        output_log.partitions()
    except BaseException:
        output_log.close()
        raise
    return output_log


def _first_model(
    settings: ServingSettings, stop: Event, status: Status
) -> tuple[SparkSession, PreparedModel]:
    """Await a version with the alias that passes its checks; an unfit one is waited out, not served."""
    unfit: str | None = None

    def other_version() -> str:
        version = find_version(settings)
        if version == unfit:
            raise NotYetError(str(status.why_not_ready()))
        return version

    # Spark starts while the model is on its way, but not before there is one.
    with ThreadPoolExecutor(max_workers=1) as starter:
        starting: Future[SparkSession] | None = None
        while True:
            version = wait_for(other_version, stop, (), longest_pause=1.0, report=status.not_ready)
            status.not_ready(f"preparing version {version} of {settings.registered_model}")
            starting = starting or starter.submit(
                start_spark,
                "usedcars-serving",
                settings.serving_spark_master,
                settings.serving_spark_driver_memory,
                settings.spark_jars,
            )
            try:
                wait_for(partial(fetch_model, settings, version), stop, (), report=status.not_ready)
                spark = starting.result()
                prepared = wait_for(
                    partial(prepare_model, spark, settings, version), stop, (), report=status.not_ready
                )
            except UnfitModelError as error:
                unfit = version
                log.error("unfit_model", reason=str(error))
                status.refuse(version, str(error))
                status.not_ready(str(error))
            else:
                return spark, prepared


def _answer(
    settings: ServingSettings,
    stop: Event,
    status: Status,
    metrics: ServingMetrics,
    output_log: OutputLog,
    spark: SparkSession,
    prepared: PreparedModel,
    checkpoint: Path,
    succession: Succession,
) -> PreparedModel:
    """Answer with one version until its successor is prepared, and stop for it.

    Raises StoppedError when `stop` is set, QueryFailedError when the query ends by itself.
    """
    if stop.is_set():
        raise StoppedError
    progress = output_log.resume()
    query = start_query(
        spark, prepared.model, prepared.served.version, settings, progress.next_offsets, checkpoint
    )
    try:
        served = prepared.served
        log.info("serving", model=served.name, version=served.version, from_offsets=progress.next_offsets)
        remember_served(settings, served)
        wait_for(lambda: _check_runs(spark, query, len(progress.next_offsets)), stop, (), longest_pause=0.25)
        metrics.started(query, served.version)
        status.serve(served.name, served.version)
        status.ready()
        succession.started(served)
        successor = _await_successor(query, stop, succession)
    except BaseException:
        status.not_ready("stopping")
        end_query(spark, query)
        raise
    finally:
        metrics.stopped()
    _give_way(spark, query, stop)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return successor


def _await_successor(query: StreamingQuery, stop: Event, succession: Succession) -> PreparedModel:
    while (successor := succession.next()) is None:
        if stop.wait(0.1):
            raise StoppedError
        check_query(query)
    return successor


def _give_way(spark: SparkSession, query: StreamingQuery, stop: Event) -> None:
    """Stop the query, with all that it has answered in the log; StoppedError when `stop` is set meanwhile."""

    def end() -> None:
        spark.sparkContext.setLogLevel("OFF")  # the tasks that are cut off complain at length
        try:
            query.stop()
            flush_producers(spark)
        finally:
            spark.sparkContext.setLogLevel("WARN")

    ender = ThreadPoolExecutor(max_workers=1)
    ending = ender.submit(end)
    ender.shutdown(wait=False)
    # Kafka may be away: then this takes as long as it is.
    while not ending.done():
        if stop.wait(0.02):
            raise StoppedError
    ending.result()


def _check_cores(spark: SparkSession, settings: ServingSettings, partitions: list[int]) -> None:
    """With too few cores a real-time query would run and not answer, or no successor load: say so instead."""
    cores = spark.sparkContext.defaultParallelism
    if settings.serving_spark_master.startswith("local") and cores <= len(partitions):
        raise TopicsError(
            f"{settings.requests_topic} has {len(partitions)} partitions and serving {cores} Spark cores: "
            f"a real-time query holds one core a partition, and the next model is loaded on another, so "
            f"set USEDCARS_SERVING_SPARK_MASTER to local[{len(partitions) + 1}] or more"
        )


def _check_runs(spark: SparkSession, query: StreamingQuery, partitions: int) -> None:
    """Raise NotYetError until a task runs for every partition; QueryFailedError when the query has ended."""
    check_query(query)
    tracker = spark.sparkContext.statusTracker()
    running = (tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds())
    if not any(stage and stage.numActiveTasks >= partitions for stage in running):
        raise NotYetError("the query is starting")


def _keep_books(stop: Event, settings: ServingSettings, metrics: ServingMetrics) -> None:
    """Follow the progress for the metrics, and commit it now and then as the floor of the next start."""
    committed_at = 0.0
    unknown = False
    output_log: OutputLog | None = None  # its own: one is not for several threads
    while not stop.wait(_SECONDS_BETWEEN_LOOKS):
        try:
            output_log = output_log or _connect(settings)
            progress = output_log.progress()
            metrics.progressed(progress)
            unknown = False
            if time.monotonic() - committed_at > _SECONDS_BETWEEN_FLOORS:
                output_log.commit_floor(progress)
                committed_at = time.monotonic()
        except (KafkaError, NotYetError, TopicsError, OSError) as error:
            if not unknown:  # a line an outage, not one every two seconds of it
                log.warning("progress_unknown", reason=str(error)[:300])
            unknown = True


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = ServingSettings()
    metrics = ServingMetrics()
    run_application(
        settings,
        settings.serving_port,
        metrics,
        lambda stop, status: serve(settings, metrics, stop, status),
    )


if __name__ == "__main__":
    main()
