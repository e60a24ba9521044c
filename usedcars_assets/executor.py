"""An executor that runs the steps of a run as threads of the run's own process.

The steps share what is expensive to start, the Spark session first of all, and independent ones (the
base models) run at the same time. It is Dagster's in-process executor with the loop over steps replaced:
workers produce the events of their step, the main thread hands them on and decides what comes next.
"""

import ctypes
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

from dagster import (
    DagsterEvent,
    DagsterExecutionInterruptedError,
    Executor,
    Field,
    InitExecutorContext,
    Int,
    executor,
)
from dagster._core.events import EngineEventData
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.compute_logs import create_compute_log_file_key
from dagster._core.execution.context.system import (
    PlanExecutionContext,
    PlanOrchestrationContext,
    StepExecutionContext,
)
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.execute_plan import _trigger_hook, dagster_event_sequence_for_step
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.plan.step import ExecutionStep
from dagster._core.execution.retries import RetryMode, get_retries_config
from dagster._utils.error import serializable_error_info_from_exc_info

HEARTBEAT_TAG = "usedcars/alive_at"
"""Run tag with the time (seconds since the epoch) at which the run's process last said that it lives."""

_POLL_SECONDS = 0.2
_INTERRUPT_GRACE_SECONDS = 30.0


@executor(
    name="threads",
    config_schema={
        "max_concurrent": Field(
            Int, default_value=4, description="How many steps run at the same time in the run's process."
        ),
        "heartbeat_seconds": Field(
            Int, default_value=20, description="How often the run's process says that it lives."
        ),
        "retries": get_retries_config(),  # type: ignore[no-untyped-call]
    },
)
def threads_executor(init_context: InitExecutorContext) -> Executor:
    """Dagster's entry to `ThreadsExecutor`."""
    config = init_context.executor_config
    return ThreadsExecutor(
        retries=RetryMode.from_config(config["retries"]) or RetryMode.ENABLED,  # type: ignore[arg-type]
        max_concurrent=int(config["max_concurrent"]),  # type: ignore[call-overload]
        heartbeat_seconds=int(config["heartbeat_seconds"]),  # type: ignore[call-overload]
    )


class ThreadsExecutor(Executor):
    """Runs up to `max_concurrent` steps at a time, each in a thread of this process."""

    def __init__(self, retries: RetryMode, max_concurrent: int, heartbeat_seconds: int) -> None:
        if max_concurrent < 1:
            raise ValueError(f"max_concurrent is {max_concurrent}: at least one step has to run at a time.")
        self._retries = retries
        self._max_concurrent = max_concurrent
        self._heartbeat_seconds = heartbeat_seconds

    @property
    def retries(self) -> RetryMode:
        """How a step that asks for a retry is treated."""
        return self._retries

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        """Execute the plan, yielding its events in the order in which they happened."""
        keys = execution_plan.step_keys_to_execute
        process = EngineEventData.in_process(os.getpid(), keys)
        yield DagsterEvent.engine_event(
            plan_context, f"Executing steps as threads of process {os.getpid()}", process
        )
        started = time.monotonic()
        yield from ExecuteRunWithPlanIterable(
            execution_plan=execution_plan,
            iterator=partial(
                _execute_plan,
                max_concurrent=self._max_concurrent,
                heartbeat_seconds=self._heartbeat_seconds,
            ),
            execution_context_manager=PlanExecutionContextManager(
                job=plan_context.job,
                retry_mode=plan_context.retry_mode,
                execution_plan=execution_plan,
                run_config=plan_context.run_config,
                dagster_run=plan_context.dagster_run,
                instance=plan_context.instance,
                raise_on_error=plan_context.raise_on_error,
                output_capture=plan_context.output_capture,
            ),
        )
        yield DagsterEvent.engine_event(
            plan_context,
            f"Finished steps of process {os.getpid()} in {time.monotonic() - started:.1f} s",
            process,
        )


@dataclass
class _Ended:
    """The last message of a worker: its step produces no more events."""

    error: BaseException | None


@dataclass
class _Worker:
    """A step and the thread that runs it."""

    context: StepExecutionContext
    thread: threading.Thread
    events: list[DagsterEvent] = field(default_factory=list)


_Message = tuple[str, DagsterEvent | _Ended]


def _run_step(context: StepExecutionContext, messages: "queue.SimpleQueue[_Message]") -> None:
    error: BaseException | None = None
    try:
        for event in dagster_event_sequence_for_step(context):
            messages.put((context.step.key, event))
    except BaseException as raised:  # it is handed to the main thread, whatever it is
        error = raised
    messages.put((context.step.key, _Ended(error)))


def _execute_plan(
    job_context: PlanExecutionContext,
    execution_plan: ExecutionPlan,
    max_concurrent: int,
    heartbeat_seconds: int,
) -> Iterator[DagsterEvent]:
    with ExitStack() as stack:
        concurrency = stack.enter_context(
            InstanceConcurrencyContext(job_context.instance, job_context.dagster_run)
        )
        active = stack.enter_context(
            execution_plan.start(
                retry_mode=job_context.retry_mode,
                max_concurrent=max_concurrent,
                instance_concurrency_context=concurrency,
            )
        )
        logs = stack.enter_context(ExitStack())
        yield from _capture_logs(job_context, execution_plan, logs)
        yield from _drive(job_context, active, _heartbeat(job_context, heartbeat_seconds))


def _drive(
    job_context: PlanExecutionContext, active: ActiveExecution, beat: Callable[[], None]
) -> Iterator[DagsterEvent]:
    messages: queue.SimpleQueue[_Message] = queue.SimpleQueue()
    workers: dict[str, _Worker] = {}
    first_error: BaseException | None = None
    stop_at: float | None = None  # set once the run has to end: nothing new starts
    interrupted = False
    try:
        while workers or (stop_at is None and not active.is_complete):
            if not interrupted and active.check_for_interrupts():
                interrupted = True
                yield DagsterEvent.engine_event(
                    job_context,
                    "Termination asked for: stopping the steps that run",
                    EngineEventData.interrupted(list(workers)),
                )
                active.mark_interrupted()
                stop_at = time.monotonic() + _INTERRUPT_GRACE_SECONDS
                _interrupt(workers)
            if stop_at is None:
                for step in active.get_steps_to_execute():
                    workers[step.key] = _start(job_context, active, step, messages)
                yield from active.concurrency_event_iterator(job_context)
                if not workers:
                    yield from active.plan_events_iterator(job_context)
            elif time.monotonic() > stop_at:
                break  # the process ends, and its daemon threads with it
            beat()
            try:
                key, message = messages.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            worker = workers[key]
            if isinstance(message, DagsterEvent):
                worker.events.append(message)
                yield message
                active.handle_event(message)
                continue
            del workers[key]
            active.verify_complete(job_context, key)
            for event in active.plan_events_iterator(job_context):  # skips, after a failure or no output
                worker.events.append(event)
                yield event
            yield from _trigger_hook(worker.context, worker.events)
            if message.error is not None and first_error is None:
                first_error = message.error
                if job_context.raise_on_error and stop_at is None:
                    stop_at = float("inf")  # let the others end: their results are worth keeping
    finally:
        _interrupt(workers)
    if first_error is not None and (
        job_context.raise_on_error or isinstance(first_error, DagsterExecutionInterruptedError)
    ):
        raise first_error


def _start(
    job_context: PlanExecutionContext,
    active: ActiveExecution,
    step: ExecutionStep,
    messages: "queue.SimpleQueue[_Message]",
) -> _Worker:
    context = job_context.for_step(step, active.get_known_state())
    # One new thread a step: thread-local state (MLflow's active run, Spark's job group) dies with it.
    thread = threading.Thread(target=_run_step, args=(context, messages), name=step.key, daemon=True)
    thread.start()
    return _Worker(context, thread)


def _interrupt(workers: dict[str, _Worker]) -> None:
    """Stop the threads: Python code by an exception, what waits for Spark by cancelling its jobs."""
    for worker in workers.values():
        if worker.thread.ident is not None and worker.thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(worker.thread.ident), ctypes.py_object(DagsterExecutionInterruptedError)
            )
    pyspark = sys.modules.get("pyspark")
    if workers and pyspark is not None:
        context = pyspark.SparkContext._active_spark_context
        if context is not None:
            with suppress(Exception):  # a JVM that died has nothing to cancel
                context.cancelAllJobs()


def _heartbeat(job_context: PlanExecutionContext, seconds: int) -> Callable[[], None]:
    last = float("-inf")

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last < seconds:
            return
        last = time.monotonic()
        # A storage that is busy for a moment must not end the run: the next beat comes soon.
        with suppress(Exception):
            job_context.instance.add_run_tags(job_context.run_id, {HEARTBEAT_TAG: str(int(time.time()))})

    return beat


def _capture_logs(
    job_context: PlanExecutionContext, execution_plan: ExecutionPlan, stack: ExitStack
) -> Iterator[DagsterEvent]:
    """One log of standard output and error for the whole process."""
    log_manager = job_context.instance.compute_log_manager
    step_keys = [step.key for step in execution_plan.get_steps_to_execute_in_topo_order()]
    log_key = log_manager.build_log_key_for_run(job_context.run_id, create_compute_log_file_key())  # type: ignore[no-untyped-call]
    try:
        log_context = stack.enter_context(log_manager.capture_logs(log_key))
        yield DagsterEvent.capture_logs(job_context, step_keys, log_key, log_context)
    except Exception:
        yield DagsterEvent.engine_event(
            job_context,
            "Standard output and error of this run could not be captured",
            EngineEventData(error=serializable_error_info_from_exc_info(sys.exc_info())),
        )
