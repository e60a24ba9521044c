"""Of trainings and rollouts, one is under way at a time."""

from dagster import AssetKey, DagsterInstance, DagsterRun, RunsFilter
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from usedcars_assets.ingestion.batches import TRAINING_TAG

_ROLLOUT = AssetKey("serving_rollout")


def unfinished_training(instance: DagsterInstance) -> DagsterRun | None:
    """The training or rollout that is queued or runs, also one of chosen assets; None if the way is free."""
    runs = instance.get_runs(RunsFilter(statuses=NOT_FINISHED_STATUSES))
    return next(filter(_trains_or_rolls_out, runs), None)


def _trains_or_rolls_out(run: DagsterRun) -> bool:
    # Who materialises chosen assets in the UI starts a run without the job's tags.
    return TRAINING_TAG in run.tags or _ROLLOUT in (run.asset_selection or ())
