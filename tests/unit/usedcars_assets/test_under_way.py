import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test

from usedcars_assets.ingestion.batches import TRAINING_TAG
from usedcars_assets.ingestion.under_way import unfinished_training

# Dagster wants to know of a queued run from where to start it.
CODE = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="localhost", port=1), "repository")


def run(instance: DagsterInstance, status: DagsterRunStatus, tags: dict[str, str]) -> DagsterRun:
    origin = RemoteJobOrigin(CODE, "training")
    return create_run_for_test(instance, status=status, tags=tags, remote_job_origin=origin)


@pytest.mark.parametrize("status", [DagsterRunStatus.QUEUED, DagsterRunStatus.STARTED])
def test_a_training_that_is_queued_or_runs_is_under_way(status: DagsterRunStatus) -> None:
    with DagsterInstance.ephemeral() as instance:
        training = run(instance, status, {TRAINING_TAG: "true"})
        found = unfinished_training(instance)
        assert found is not None
        assert found.run_id == training.run_id


def test_a_training_that_has_ended_and_other_runs_leave_the_way_free() -> None:
    with DagsterInstance.ephemeral() as instance:
        run(instance, DagsterRunStatus.SUCCESS, {TRAINING_TAG: "true"})
        run(instance, DagsterRunStatus.STARTED, {})
        assert unfinished_training(instance) is None
