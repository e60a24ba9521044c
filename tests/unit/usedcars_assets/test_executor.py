"""Steps as threads of one process: what Dagster's own executors promise holds here too."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dagster import (
    AssetExecutionContext,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
    Failure,
    HookContext,
    In,
    JobDefinition,
    JobExecutionResult,
    Nothing,
    OpExecutionContext,
    Out,
    RetryPolicy,
    RunsFilter,
    asset,
    define_asset_job,
    execute_job,
    failure_hook,
    instance_for_test,
    job,
    op,
    reconstructable,
    success_hook,
)

from usedcars_assets.executor import HEARTBEAT_TAG, threads_executor

BOTH_STARTED = threading.Barrier(2, timeout=20)


@asset
def rows() -> int:
    return 3


@asset
def left_member(context: AssetExecutionContext, rows: int) -> int:
    BOTH_STARTED.wait()  # passes only when the other member runs at the same time
    context.log.info("left is logged")
    context.add_output_metadata({"thread": threading.current_thread().name})
    return rows + 1


@asset
def right_member(context: AssetExecutionContext, rows: int) -> int:
    BOTH_STARTED.wait()
    context.log.info("right is logged")
    context.add_output_metadata({"thread": threading.current_thread().name})
    return rows + 2


@asset
def stack(context: AssetExecutionContext, left_member: int, right_member: int) -> None:
    context.add_output_metadata({"sum": left_member + right_member})


ASSETS = [rows, left_member, right_member, stack]


def parallel_job() -> JobDefinition:
    return Definitions(
        assets=ASSETS, jobs=[define_asset_job("parallel_job")], executor=threads_executor
    ).resolve_job_def("parallel_job")


@op(out=Out(Nothing))
def failing_member() -> None:
    raise Failure("The member has no rows.")


@op
def good_member() -> int:
    time.sleep(0.5)
    return 1


@op(ins={"failing": In(Nothing)})
def after_the_failing() -> None: ...


@op
def after_the_good(context: OpExecutionContext, value: int) -> int:
    return value


@job(executor_def=threads_executor)
def half_failing_job() -> None:
    after_the_failing(failing_member())
    after_the_good(good_member())


ATTEMPTS: list[float] = []


@op(retry_policy=RetryPolicy(max_retries=2, delay=0.1))
def third_time_lucky() -> int:
    ATTEMPTS.append(time.monotonic())
    if len(ATTEMPTS) < 3:
        raise RuntimeError("The lake is away for a moment.")
    return len(ATTEMPTS)


@job(executor_def=threads_executor)
def retrying_job() -> None:
    after_the_good(third_time_lucky())


@op(out=Out(int, is_required=False))
def nothing_to_do() -> object:
    yield from ()


@job(executor_def=threads_executor)
def skipping_job() -> None:
    after_the_good(nothing_to_do())


HOOKED: list[tuple[str, str, str]] = []


@success_hook
def note_success(context: HookContext) -> None:
    HOOKED.append((context.op.name, "success", threading.current_thread().name))


@failure_hook
def note_failure(context: HookContext) -> None:
    HOOKED.append((context.op.name, "failure", threading.current_thread().name))


@job(executor_def=threads_executor, hooks={note_success, note_failure})
def hooked_job() -> None:
    failing_member()
    good_member()


MOST: list[int] = []
_now: list[int] = []


@op
def counted(context: OpExecutionContext) -> None:
    _now.append(1)
    MOST.append(len(_now))
    time.sleep(0.2)
    _now.pop()


@job(executor_def=threads_executor)
def five_steps_job() -> None:
    for number in range(5):
        counted.alias(f"counted_{number}")()


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with instance_for_test() as instance:
        yield instance


def run(job: Callable[..., object], instance: DagsterInstance, **config: object) -> JobExecutionResult:
    return execute_job(
        reconstructable(job), instance, run_config={"execution": {"config": config}} if config else None
    )


def test_independent_members_run_at_the_same_time_and_their_results_meet(instance: DagsterInstance) -> None:
    result = run(parallel_job, instance)
    assert result.success
    (event,) = result.asset_materializations_for_node("stack")
    assert event.metadata["sum"].value == 9


def test_each_step_keeps_its_own_metadata_and_log(instance: DagsterInstance) -> None:
    result = run(parallel_job, instance)
    for member in ("left_member", "right_member"):
        (event,) = result.asset_materializations_for_node(member)
        assert event.metadata["thread"].value == member
    logged = {
        entry.step_key: entry.user_message
        for entry in instance.all_logs(result.run_id)
        if entry.user_message.endswith("is logged")
    }
    assert logged == {"left_member": "left is logged", "right_member": "right is logged"}


def test_a_failed_step_loses_nothing_of_the_others_and_skips_only_what_needs_it(
    instance: DagsterInstance,
) -> None:
    result = run(half_failing_job, instance)
    assert not result.success
    assert {event.step_key for event in result.get_step_failure_events()} == {"failing_member"}
    assert {event.step_key for event in result.get_step_success_events()} == {"good_member", "after_the_good"}
    failure = result.failure_data_for_node("failing_member")
    assert failure is not None
    assert failure.user_failure_data is not None
    assert failure.user_failure_data.description == "The member has no rows."


def test_a_step_is_retried_as_its_policy_says(instance: DagsterInstance) -> None:
    ATTEMPTS.clear()
    result = run(retrying_job, instance)
    assert result.success
    assert len(ATTEMPTS) == 3
    retried = result.filter_events(lambda event: event.event_type == DagsterEventType.STEP_UP_FOR_RETRY)
    assert len(retried) == 2


def test_a_step_without_its_optional_input_is_skipped(instance: DagsterInstance) -> None:
    result = run(skipping_job, instance)
    assert result.success
    assert [event.step_key for event in result.get_step_skipped_events()] == ["after_the_good"]


def test_hooks_are_called_on_the_main_thread(instance: DagsterInstance) -> None:
    HOOKED.clear()
    run(hooked_job, instance)
    assert sorted(HOOKED) == [
        ("failing_member", "failure", "MainThread"),
        ("good_member", "success", "MainThread"),
    ]


@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_steps_run_than_the_limit(instance: DagsterInstance, limit: int) -> None:
    MOST.clear()
    assert run(five_steps_job, instance, max_concurrent=limit).success
    assert max(MOST) == limit


def test_the_run_says_that_it_lives(instance: DagsterInstance) -> None:
    before = int(time.time())
    result = run(parallel_job, instance)
    stored = instance.get_run_by_id(result.run_id)
    assert stored is not None
    assert before <= int(stored.tags[HEARTBEAT_TAG]) <= int(time.time())


def test_an_error_is_raised_to_the_caller_who_asks_for_it(instance: DagsterInstance) -> None:
    with pytest.raises(Exception, match="no rows"):
        execute_job(reconstructable(half_failing_job), instance, raise_on_error=True)


ENDLESS_JOB = """
import sys
import time
from pathlib import Path

from dagster import DagsterInstance, execute_job, job, op, reconstructable
from dagster._utils.interrupts import setup_interrupt_handlers

from usedcars_assets.executor import threads_executor


@op
def endless():
    Path("started").touch()
    while True:
        time.sleep(0.05)


@job(executor_def=threads_executor)
def endless_job():
    endless()


if __name__ == "__main__":
    setup_interrupt_handlers()
    execute_job(reconstructable(endless_job), DagsterInstance.get())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_terminated_run_ends_and_is_not_left_running(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS_JOB)
    with instance_for_test(temp_dir=str(tmp_path)) as instance:
        process = subprocess.Popen([sys.executable, "endless.py"], cwd=tmp_path)
        try:
            deadline = time.monotonic() + 60
            while not (tmp_path / "started").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline, "the step never started"
                time.sleep(0.05)
            process.send_signal(number)
            process.wait(timeout=15)
        finally:
            process.kill()
        (record,) = instance.get_runs(RunsFilter(job_name="endless_job"))
        assert record.status == DagsterRunStatus.FAILURE  # nobody asked Dagster for a cancellation
