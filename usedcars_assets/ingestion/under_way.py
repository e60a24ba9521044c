"""Of trainings and rollouts, one is under way at a time."""

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from usedcars_assets.ingestion.batches import TRAINING_TAG

_UNFINISHED = [*IN_PROGRESS_RUN_STATUSES, DagsterRunStatus.CANCELING, DagsterRunStatus.NOT_STARTED]


def unfinished_training(instance: DagsterInstance) -> DagsterRun | None:
    """The training or rollout that is queued or runs; None if the way is free."""
    runs = instance.get_runs(RunsFilter(tags={TRAINING_TAG: "true"}, statuses=_UNFINISHED), limit=1)
    return next(iter(runs), None)
