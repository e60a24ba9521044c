"""The serving process: answers price requests with the model that carries the serving alias.

Run by `python -m streaming_app.serving`; settings are environment variables (streaming_app.settings).
"""

import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

import structlog
from kafka.errors import KafkaError
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_app.application import check_query, run_application, running, watch_query
from streaming_app.checkpoints import clear_left_checkpoints, new_checkpoint
from streaming_app.health import Status
from streaming_app.model_registry import (
    ServedModel,
    UnfitModelError,
    fetch_model,
    find_version,
    remember_served,
)
from streaming_app.output_log import OutputLog, TopicsError
from streaming_app.serving_metrics import ServingMetrics
from streaming_app.serving_query import check_model, start_query
from streaming_app.settings import ServingSettings
from streaming_app.spark_session import start_spark
from streaming_app.waiting import NotYetError, StoppedError, wait_for

log = structlog.get_logger()

_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_BETWEEN_FLOORS = 10.0


def serve(settings: ServingSettings, metrics: ServingMetrics, stop: Event, status: Status) -> None:
    """Wait for Kafka and a model, then answer until `stop` is set.

    Raises StoppedError when stopped while waiting; TopicsError, MissingJarsError and QueryFailedError when
    serving can't be.
    """
    output_log = wait_for(lambda: _connect(settings), stop, (KafkaError, OSError), report=status.not_ready)
    spark, model, served = _fit_model(settings, stop, status)
    checkpoint = new_checkpoint(settings.checkpoint_folder, spark)
    try:
        _answer(settings, stop, status, metrics, output_log, spark, model, served, checkpoint)
    finally:
        shutil.rmtree(checkpoint, ignore_errors=True)


def _connect(settings: ServingSettings) -> OutputLog:
    output_log = OutputLog(settings)
    try:
        output_log.partitions()
    except BaseException:
        output_log.close()
        raise
    return output_log


def _fit_model(
    settings: ServingSettings, stop: Event, status: Status
) -> tuple[SparkSession, PipelineModel, ServedModel]:
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
            version = wait_for(other_version, stop, (), report=status.not_ready)
            status.not_ready(f"preparing version {version} of {settings.registered_model}")
            starting = starting or starter.submit(
                start_spark,
                "usedcars-serving",
                settings.serving_spark_master,
                settings.serving_spark_driver_memory,
                settings.spark_jars,
            )
            try:
                served = wait_for(partial(fetch_model, settings, version), stop, (), report=status.not_ready)
                spark = starting.result()
                model = served.load(spark)
                check_model(spark, model, served, settings)
            except UnfitModelError as error:
                unfit = version
                log.error("unfit_model", reason=str(error))
                status.not_ready(str(error))
            else:
                return spark, model, served


def _answer(
    settings: ServingSettings,
    stop: Event,
    status: Status,
    metrics: ServingMetrics,
    output_log: OutputLog,
    spark: SparkSession,
    model: PipelineModel,
    served: ServedModel,
    checkpoint: Path,
) -> None:
    """Run the query until `stop` is set. Raises QueryFailedError when it ends by itself."""
    _check_cores(spark, settings, output_log.partitions())
    # A process that was killed may have a JVM left that answers on for a moment: the log is read after it.
    wait_for(partial(clear_left_checkpoints, settings.checkpoint_folder), stop, (), longest_pause=0.25)
    if stop.is_set():
        raise StoppedError
    progress = output_log.resume()
    query = start_query(spark, model, served.version, settings, progress.next_offsets, checkpoint)
    with running(spark, query, status):
        log.info("serving", model=served.name, version=served.version, from_offsets=progress.next_offsets)
        remember_served(settings, served)
        wait_for(lambda: _check_runs(spark, query, len(progress.next_offsets)), stop, (), longest_pause=0.25)
        metrics.started(query, served.version)
        status.ready()
        threading.Thread(
            target=_keep_books, args=(stop, output_log, metrics), name="books", daemon=True
        ).start()
        watch_query(query, stop)
    metrics.stopped()


def _check_cores(spark: SparkSession, settings: ServingSettings, partitions: list[int]) -> None:
    """A real-time query with fewer cores than partitions would run and not answer: say so instead."""
    cores = spark.sparkContext.defaultParallelism
    if settings.serving_spark_master.startswith("local") and cores < len(partitions):
        raise TopicsError(
            f"{settings.requests_topic} has {len(partitions)} partitions and serving {cores} Spark cores: "
            f"a real-time query holds one core a partition, so set USEDCARS_SERVING_SPARK_MASTER to "
            f"local[{len(partitions)}] or more"
        )


def _check_runs(spark: SparkSession, query: StreamingQuery, partitions: int) -> None:
    """Raise NotYetError until a task runs for every partition; QueryFailedError when the query has ended."""
    check_query(query)
    tracker = spark.sparkContext.statusTracker()
    running = (tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds())
    if not any(stage and stage.numActiveTasks >= partitions for stage in running):
        raise NotYetError("the query is starting")


def _keep_books(stop: Event, output_log: OutputLog, metrics: ServingMetrics) -> None:
    """Follow the progress for the metrics, and commit it now and then as the floor of the next start."""
    committed_at = 0.0
    unknown = False
    while not stop.wait(_SECONDS_BETWEEN_LOOKS):
        try:
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
