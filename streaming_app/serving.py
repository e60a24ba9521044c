"""The serving process: answers price requests with the model that carries the serving alias.

Of several such processes one answers; the others stand by, warm, with the same model.

Run by `python -m streaming_app.serving`; settings are environment variables (streaming_app.settings).
"""

import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event

import structlog
from confluent_kafka import KafkaException
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_app.answer_figures import AnswerReader
from streaming_app.application import (
    QueryFailedError,
    check_query,
    end_query,
    give_up,
    run_application,
)
from streaming_app.checkpoints import clear_left_checkpoints, jvm_pid, new_checkpoint
from streaming_app.duty import Duty
from streaming_app.gate import Gate
from streaming_app.health import Status
from streaming_app.instants import instant
from streaming_app.lease import Lease, LeaseLostError
from streaming_app.logs import first_line
from streaming_app.model_registry import UnfitModelError, fetch_model, find_version, remember_served
from streaming_app.output_log import OutputLog, Progress, TopicsError
from streaming_app.serving_metrics import ServingMetrics
from streaming_app.serving_query import plan_answers, start_query
from streaming_app.settings import ServingSettings, from_environment
from streaming_app.spared_cores import spared_cores
from streaming_app.spark_session import SHORT_PAUSES, start_spark
from streaming_app.succession import (
    SECONDS_TO_SEND,
    PreparedModel,
    Succession,
    close_producers,
    prepare_model,
)
from streaming_app.takeovers import NO_GENERATION, Takeover, TakeoverLog
from streaming_app.waiting import NotYetError, StoppedError, wait_for
from streaming_app.warm_up import warm_up

log = structlog.get_logger()

_AWAY = (KafkaException, OSError)
_SECONDS_BETWEEN_CHECKS = 0.05
_SECONDS_TO_BE_ELECTED = 1.0
_SECONDS_BETWEEN_LOOKS = 1.0  # of a standby at the alias and the generation
_SECONDS_BETWEEN_BOOKS = 2.0
_SECONDS_BETWEEN_FLOORS = 10.0
_SECONDS_TO_GIVE_WAY = 86_400.0  # as long as Kafka is away
_SECONDS_TO_REACH_THE_GATE = 10.0
_SECONDS_TO_BE_ASKED = 0.5


def serve(settings: ServingSettings, metrics: ServingMetrics, stop: Event, status: Status) -> None:
    """Wait for Kafka and a model, stand by while another process answers, then answer until `stop` is set.

    A version to which the alias moves is prepared while the former one answers, and takes over from it
    between two requests.

    Raises StoppedError when stopped; TopicsError, MissingJarsError and QueryFailedError when serving can't
    be.
    """
    output_log = wait_for(lambda: _connect(settings), stop, _AWAY, report=status.not_ready)
    takeovers = wait_for(lambda: TakeoverLog(settings), stop, _AWAY, report=status.not_ready)
    spark, prepared = _first_model(settings, stop, status)
    partitions = wait_for(output_log.partitions, stop, _AWAY, report=status.not_ready)
    _check_cores(spark, settings, partitions)
    asked = _Asked(spark, settings, partitions)
    checkpoints = new_checkpoint(settings.checkpoint_folder, spark)
    succession = Succession(
        spark,
        settings,
        status,
        stop,
        lambda prepared: warm_up(
            spark, prepared, settings, checkpoints / "rehearsal", stop.is_set, beside=True
        ),
    )
    lease = Lease(settings)
    duty = Duty(lease, settings.serving_duty_seconds, stop, partial(give_up, jvm_pid(spark)))
    threading.Thread(
        target=_keep_books, args=(stop, settings, metrics, lease, asked), name="books", daemon=True
    ).start()
    reader = AnswerReader(settings, metrics.answers, stop)
    process = _Process(
        settings, spark, lease, duty, succession, output_log, takeovers, metrics, reader, asked, stop, status
    )
    try:
        lease.take_part()
        duty.watch()
        places = count()
        while True:
            try:
                planned = process.stand_by(prepared, checkpoints)
                while True:
                    prepared = planned.prepared
                    planned = process.answer(planned, checkpoints / str(next(places)))
            except LeaseLostError:
                log.warning("lease_lost", now="standing by")
    finally:
        shutil.rmtree(checkpoints, ignore_errors=True)
        lease.give_back()


class _Asked:
    """The partitions of the requests, as they were last seen and as far as there are cores for them."""

    def __init__(self, spark: SparkSession, settings: ServingSettings, partitions: list[int]) -> None:
        self._spark, self._settings = spark, settings
        self._seen = self.partitions = partitions

    def see(self, partitions: list[int]) -> None:
        """Take note of them; of too many it is said once, and those before are answered on."""
        if partitions == self._seen:
            return
        self._seen = partitions
        try:
            _check_cores(self._spark, self._settings, partitions)
        except TopicsError as error:
            log.error("partitions_not_answered", reason=str(error))
        else:
            log.info("partitions_changed", topic=self._settings.requests_topic, partitions=partitions)
            self.partitions = partitions


@dataclass(frozen=True)
class _Waiting:
    """A query that runs behind its closed gate; `starts`: the first requests that it has not dropped."""

    query: StreamingQuery
    checkpoint: Path
    topic_id: str
    starts: dict[int, int]


@dataclass(frozen=True)
class _Planned:
    """A version with its query, ready to be started; planned for the generation that comes next.

    `waiting`: the query is started already, and only its gate is to be opened.
    """

    prepared: PreparedModel
    generation: int
    partitions: list[int]
    gate: Gate
    answers: DataFrame
    waiting: _Waiting | None = None

    def waits_for(self, takeover: Takeover, starts: dict[int, int]) -> _Waiting | None:
        """The waiting query, where it runs, and has dropped none of the requests of the takeover."""
        waiting = self.waiting
        fits = (
            waiting is not None
            and waiting.query.isActive
            and (self.generation, waiting.topic_id) == (takeover.generation, takeover.topic_id)
            and waiting.starts.keys() == starts.keys()
            and all(waiting.starts[partition] <= start for partition, start in starts.items())
        )
        return waiting if fits else None


@dataclass(frozen=True)
class _Process:
    """A process that is ready to answer, and what it answers with."""

    settings: ServingSettings
    spark: SparkSession
    lease: Lease
    duty: Duty
    succession: Succession
    output_log: OutputLog
    takeovers: TakeoverLog
    metrics: ServingMetrics
    reader: AnswerReader
    asked: _Asked
    stop: Event
    status: Status

    def stand_by(self, prepared: PreparedModel, checkpoints: Path) -> _Planned:
        """Wait for the lease, warm, with the version that the alias names. Raises StoppedError."""
        self.succession.holds(prepared.served)
        if not self._lease_within(_SECONDS_TO_BE_ELECTED):  # else nobody answers: no time to warm up
            self.status.not_ready(f"warming up with version {prepared.served.version}")
            warm_up(self.spark, prepared, self.settings, checkpoints, self._is_called)
        with spared_cores(self.spark):
            planned = self._plan(prepared, self._next_generation(), self.asked.partitions)
        try:
            while not self.lease.held():
                self.status.stand_by(prepared.served.name, prepared.served.version)
                self.metrics.stood_by(prepared.served.version)
                planned = self._at_the_gate(planned, checkpoints)
                if self._lease_within(_SECONDS_BETWEEN_LOOKS):
                    break
                prepared = self.succession.next() or prepared
                generation, partitions = self._next_generation(), self.asked.partitions
                if (prepared, generation, partitions) != (
                    planned.prepared,
                    planned.generation,
                    planned.partitions,
                ):
                    self._end_waiting(planned)
                    self.succession.holds(prepared.served)
                    with spared_cores(self.spark):
                        planned = self._plan(prepared, generation, partitions)
        except BaseException:
            self._end_waiting(planned)
            raise
        return planned

    def _at_the_gate(self, planned: _Planned, checkpoints: Path) -> _Planned:
        """The planned query at its closed gate, past what is answered by now.

        Not started where Spark has not the cores for two queries, nor while Kafka is away.
        """
        partitions = planned.partitions
        if self.spark.sparkContext.defaultParallelism < 2 * len(partitions):
            return planned
        try:
            progress = self.output_log.progress(self.takeovers.last())
        except (*_AWAY, NotYetError, TopicsError):
            return planned
        waiting = planned.waiting
        if waiting is not None and (not waiting.query.isActive or waiting.topic_id != progress.topic_id):
            self._end_waiting(planned)
            return self._plan(planned.prepared, planned.generation, partitions)  # with another gate
        if not progress.next_offsets.keys() >= set(partitions):
            return planned
        starts = {p: progress.next_offsets[p] for p in partitions}
        if waiting is None:
            name = planned.gate.name
            try:
                query = start_query(planned.answers, self.settings, starts, checkpoints / name, name)
            except (Py4JError, PySparkException) as error:
                log.warning("successor_not_started", reason=first_line(error), effect="slow takeover")
                return planned
            waiting = _Waiting(query, checkpoints / name, progress.topic_id, starts)
        else:
            planned.gate.answered(starts)
            waiting = replace(waiting, starts={p: max(waiting.starts[p], starts[p]) for p in partitions})
        return replace(planned, waiting=waiting)

    def _is_called(self) -> bool:
        return self.lease.held() or self.stop.is_set()

    def _next_generation(self) -> int:
        """That of the next takeover, as far as it can be known now."""
        try:
            former = self.takeovers.last()
        except (*_AWAY, NotYetError):
            return NO_GENERATION
        return 1 + (NO_GENERATION if former is None else former.generation)

    def _plan(self, prepared: PreparedModel, generation: int, partitions: list[int]) -> _Planned:
        version, gate = prepared.served.version, Gate(self.spark, partitions)
        answers = plan_answers(
            self.spark, prepared.model, version, generation, partitions, self.settings, gate
        )
        return _Planned(prepared, generation, partitions, gate, answers)

    def _lease_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.lease.held() and time.monotonic() < deadline:
            if self.stop.wait(0.02):
                raise StoppedError
        return self.lease.held()

    def answer(self, planned: _Planned, checkpoint: Path) -> _Planned:
        """Answer with one version until its successor is prepared, and stop for it.

        Its successor is the same version when the requests have got other partitions. Raises StoppedError,
        LeaseLostError, and QueryFailedError when the query ends by itself.
        """
        served = planned.prepared.served
        with ExitStack() as unused:
            unused.callback(self._end_waiting, planned)
            # A process that was killed here may have a JVM left that answers on for a moment.
            left = partial(clear_left_checkpoints, self.settings.checkpoint_folder)
            wait_for(left, self.stop, (), longest_pause=0.25)
            former = wait_for(self.takeovers.last, self.stop, _AWAY, longest_pause=0.25)
            progress = wait_for(partial(self.output_log.resume, former), self.stop, _AWAY, longest_pause=0.25)
            takeover = _takeover(self.settings, planned.prepared, former, progress)
            partitions = [p for p in self.asked.partitions if p in progress.next_offsets]
            starts = {p: progress.next_offsets[p] for p in partitions}
            self.lease.put_down(takeover)
            if (waiting := planned.waits_for(takeover, starts)) is not None:
                unused.pop_all()
        if waiting is not None:
            query, checkpoint = waiting.query, waiting.checkpoint
        else:
            known = (planned.waiting, planned.generation, planned.partitions)
            if known != (None, takeover.generation, partitions):
                planned = self._plan(planned.prepared, takeover.generation, partitions)
            query = start_query(planned.answers, self.settings, starts, checkpoint, planned.gate.name)
        planned.gate.open(starts)
        try:
            log.info(
                "serving",
                model=served.name,
                version=served.version,
                generation=takeover.generation,
                from_offsets=starts,
                waited=waiting is not None,
            )
            remember_served(self.settings, served)
            while not self._runs(query, len(partitions)):
                self._check(query)
            self.metrics.started(query, served.version)
            self.status.serve(served.name, served.version)
            self.status.ready()
            self.reader.begin(takeover.answers_from)
            self.succession.holds(served)
            prepared = self._await_successor(query, planned)
            with spared_cores(self.spark):
                successor = self._plan(prepared, takeover.generation + 1, self.asked.partitions)
                successor = self._started(successor, query, checkpoint.parent)
        except BaseException as error:
            self.status.not_ready("stopping")
            self.reader.end()
            # Who has lost the lease may not write any more: another answers what it held.
            seconds = 0.0 if isinstance(error, LeaseLostError) else SECONDS_TO_SEND
            planned.gate.close()
            end_query(self.spark, query, partial(close_producers, self.spark, planned.gate.name, seconds))
            raise
        finally:
            self.metrics.stopped()
        try:
            self._give_way(query, planned.gate)
        except BaseException:
            self._end_waiting(successor)
            raise
        shutil.rmtree(checkpoint, ignore_errors=True)
        return successor

    def _runs(self, query: StreamingQuery, partitions: int) -> bool:
        """Whether a task runs for every partition."""
        tracker = self.spark.sparkContext.statusTracker()
        jobs = (tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(query.runId))
        stages = (tracker.getStageInfo(stage) for job in jobs if job for stage in job.stageIds)
        return any(stage and stage.numActiveTasks >= partitions for stage in stages)

    def _started(self, successor: _Planned, query: StreamingQuery, checkpoints: Path) -> _Planned:
        """The successor's query at its gate, its tasks running, beside the one that answers."""
        started = self._at_the_gate(successor, checkpoints)
        if started.waiting is None:
            return started
        try:
            deadline = time.monotonic() + _SECONDS_TO_REACH_THE_GATE
            while not self._runs(started.waiting.query, len(started.partitions)):
                self._check(query)
                check_query(started.waiting.query)
                if time.monotonic() > deadline:
                    raise QueryFailedError("its tasks do not run")
            deadline = time.monotonic() + _SECONDS_TO_BE_ASKED
            while not started.gate.reached() and time.monotonic() < deadline:
                self._check(query)
        except QueryFailedError as error:
            self._end_waiting(started)
            check_query(query)
            log.warning("successor_not_started", reason=str(error), effect="slow takeover")
            return self._plan(successor.prepared, successor.generation, successor.partitions)
        except BaseException:
            self._end_waiting(started)
            raise
        return started

    def _end_waiting(self, planned: _Planned) -> None:
        """End the waiting query, if there is one. What is started in its place needs a gate of its own."""
        if (waiting := planned.waiting) is not None:
            planned.gate.close()
            end_query(self.spark, waiting.query)
            self.spark.sparkContext.setLogLevel("WARN")
            shutil.rmtree(waiting.checkpoint, ignore_errors=True)

    def _await_successor(self, query: StreamingQuery, planned: _Planned) -> PreparedModel:
        while (successor := self.succession.next()) is None:
            self._check(query)
            self.duty.done()
            if self.asked.partitions != planned.partitions:
                return planned.prepared
        return successor

    def _check(self, query: StreamingQuery) -> None:
        if self.stop.wait(_SECONDS_BETWEEN_CHECKS):
            raise StoppedError
        self.lease.check()
        check_query(query)

    def _give_way(self, query: StreamingQuery, gate: Gate) -> None:
        """Stop the query, with all that it has answered in the log; StoppedError when stopped meanwhile."""

        def end() -> None:
            self.spark.sparkContext.setLogLevel("OFF")  # the tasks that are cut off complain at length
            try:
                gate.close()
                query.stop()
                close_producers(self.spark, gate.name, _SECONDS_TO_GIVE_WAY)
            finally:
                self.spark.sparkContext.setLogLevel("WARN")

        ender = ThreadPoolExecutor(max_workers=1)
        ending = ender.submit(end)
        ender.shutdown(wait=False)
        # Kafka may be away: then this takes as long as it is.
        while not ending.done():
            self.duty.done()
            if self.stop.wait(0.02):
                raise StoppedError
        ending.result()


def _takeover(
    settings: ServingSettings, prepared: PreparedModel, former: Takeover | None, progress: Progress
) -> Takeover:
    return Takeover(
        # Also higher than that of any answer, should the takeovers topic have been made anew.
        generation=1 + max(progress.generation, NO_GENERATION if former is None else former.generation),
        instance=settings.serving_instance,
        model=prepared.served.name,
        version=prepared.served.version,
        began_at=instant(datetime.now(UTC)),
        topic_id=progress.topic_id,
        next_offsets=progress.next_offsets,
        answers_from=progress.answer_ends,
    )


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
            starting = starting or starter.submit(_start_spark, settings)
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


def _start_spark(settings: ServingSettings) -> SparkSession:
    spark = start_spark(
        "usedcars-serving",
        settings.serving_spark_master,
        settings.serving_spark_driver_memory,
        settings.spark_jars,
        SHORT_PAUSES,
    )
    # As one stage the query of a real model is more code than the JVM compiles in a method (the limit in
    # spark_session). Spark would write it, compile it, and take the code by operators after all.
    spark.conf.set("spark.sql.codegen.wholeStage", "false")
    return spark


def _check_cores(spark: SparkSession, settings: ServingSettings, partitions: list[int]) -> None:
    """With too few cores a real-time query would run and not answer, or no successor load: say so instead."""
    cores = spark.sparkContext.defaultParallelism
    if settings.serving_spark_master.startswith("local") and cores <= len(partitions):
        raise TopicsError(
            f"{settings.requests_topic} has {len(partitions)} partitions and serving {cores} Spark cores: "
            f"a real-time query holds one core a partition, and the next model is loaded on another, so "
            f"set USEDCARS_SERVING_SPARK_MASTER to local[{len(partitions) + 1}] or more"
        )


def _keep_books(
    stop: Event, settings: ServingSettings, metrics: ServingMetrics, lease: Lease, asked: _Asked
) -> None:
    """Follow the progress for the metrics; the active process commits it as the floor of the next start."""
    committed_at = 0.0
    unknown = ""
    output_log: OutputLog | None = None  # its own: one is not for several threads
    takeovers: TakeoverLog | None = None
    while not stop.wait(_SECONDS_BETWEEN_BOOKS):
        try:
            output_log = output_log or _connect(settings)
            takeovers = takeovers or TakeoverLog(settings)
            progress = output_log.progress(takeovers.last())
            metrics.progressed(progress)
            asked.see(sorted(progress.next_offsets))
            unknown = ""
            if lease.held() and time.monotonic() - committed_at > _SECONDS_BETWEEN_FLOORS:
                output_log.commit_floor(progress)
                committed_at = time.monotonic()
        except (*_AWAY, NotYetError, TopicsError) as error:
            reason = str(error)[:300]
            if reason != unknown:  # a line an outage, not one every two seconds of it
                log.warning("progress_unknown", reason=reason)
            unknown = reason


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = from_environment(ServingSettings)
    metrics = ServingMetrics()
    run_application(
        settings,
        settings.serving_port,
        [metrics],
        lambda stop, status: serve(settings, metrics, stop, status),
    )


if __name__ == "__main__":
    main()
