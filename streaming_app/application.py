"""What the two processes have in common: signals, logs, the health page, and the watch over their query."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Event
from types import MappingProxyType
from typing import NoReturn

import structlog
from confluent_kafka import KafkaException
from kafka.errors import KafkaError
from prometheus_client.registry import Collector
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_app.health import Page, Status, start_health_server
from streaming_app.logs import configure_logs, first_line
from streaming_app.output_log import TopicsError
from streaming_app.settings import ApplicationSettings
from streaming_app.spark_session import MissingJarsError
from streaming_app.waiting import StoppedError

log = structlog.get_logger()


_SECONDS_TO_STOP = 5.0


class QueryFailedError(Exception):
    """The query ended by itself; the text says why."""


def run_application(
    settings: ApplicationSettings,
    port: int,
    metrics: Sequence[Collector],
    work: Callable[[Event, Status], None],
    pages: Mapping[str, Callable[[str], Page]] = MappingProxyType({}),
) -> NoReturn:
    """Do `work` until SIGTERM or SIGINT, then exit with 0; with 1 and one logged sentence after a failure.

    `pages` are shown beside the health page, at its port.
    """
    configure_logs(settings.log_format)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread: the handler may interrupt this very event's own code, whose lock it would wait for.
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    status = Status("starting")
    try:
        start_health_server(settings.health_host, port, status, metrics, pages)
        work(stop, status)
        code = 0
    except StoppedError:
        code = 0
    except (
        TopicsError,
        MissingJarsError,
        QueryFailedError,
        KafkaError,
        KafkaException,
        Py4JError,
        OSError,
    ) as error:
        # A signal to the whole process group ends the JVM as well, under our hands: no failure.
        code = 0 if stop.is_set() else 1
        if code:
            status.dead(str(error))
            reason = first_line(error, 500)
            log.error("failed", reason=f"Spark's JVM: {reason}" if isinstance(error, Py4JError) else reason)
    _end_process(code)


def give_up(jvm_pid: int, reason: str) -> NoReturn:
    """End the process and its JVM as failed ones, from any thread, whatever the others wait for."""
    log.error("failed", reason=reason)
    with suppress(ProcessLookupError):
        os.kill(jvm_pid, signal.SIGKILL)
    _end_process(1)


def _end_process(code: int) -> NoReturn:
    log.info("stopped", exit_code=code)
    sys.stdout.flush()
    # Not sys.exit: it would wait for threads that wait for a Kafka that may be away.
    os._exit(code)


def end_query(spark: SparkSession, query: StreamingQuery, then: Callable[[], None] = lambda: None) -> None:
    """Stop the query, `then` do what else its end wants, in seconds even when the JVM or Kafka is gone."""

    def end() -> None:
        with suppress(Py4JError, OSError):
            spark.sparkContext.setLogLevel("OFF")  # the tasks that are cut off complain at length
            query.stop()
            then()

    stopping = threading.Thread(target=end, daemon=True)
    stopping.start()
    stopping.join(_SECONDS_TO_STOP)


@contextmanager
def running(spark: SparkSession, query: StreamingQuery, status: Status) -> Iterator[None]:
    """End the query at the end of the block."""
    try:
        yield
    finally:
        status.not_ready("stopping")
        end_query(spark, query)


def watch_queries(queries: Sequence[StreamingQuery], stop: Event) -> None:
    """Return when `stop` is set. Raises QueryFailedError when one of the queries ends before."""
    while not stop.wait(0.25):
        for query in queries:
            check_query(query)


def check_query(query: StreamingQuery) -> None:
    """Raise QueryFailedError when the query has ended."""
    if not query.isActive:
        error = query.exception()
        raise QueryFailedError(f"the query ended by itself: {error or 'without an error'}")
