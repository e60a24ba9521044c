"""The jobs that launch assets together, and the schedule."""

from dagster import (
    AssetSelection,
    DefaultScheduleStatus,
    RunRequest,
    ScheduleEvaluationContext,
    SkipReason,
    define_asset_job,
    schedule,
)

from usedcars_assets.failures import UnavailableError
from usedcars_assets.ingestion.batches import TRAINING_TAG
from usedcars_assets.ingestion.claims import BatchVersion
from usedcars_assets.ingestion.incoming import look_at_incoming
from usedcars_assets.ingestion.quarantine import quarantine_reason
from usedcars_assets.ingestion.trained import read_trained
from usedcars_assets.ingestion.under_way import unfinished_training
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import end_mlflow_on_run_finished
from usedcars_assets.settings import settings

_AFTER_THE_ROLLOUT = AssetSelection.assets("serving_rollout").downstream(include_self=False)
_FROM_FEATURES = (
    AssetSelection.assets("train_features", "test_features", "feature_pipeline").downstream()
    - _AFTER_THE_ROLLOUT
    - AssetSelection.assets("tuned_parameters")
)
_TAGS = {TRAINING_TAG: "true"}

training = define_asset_job(
    "training",
    selection=AssetSelection.assets("cleaned_listings", "rejected_listings") | _FROM_FEATURES,
    description="New batches into a model that answers: cleaning, features, members, stack, rollout.",
    tags=_TAGS,
    hooks={end_mlflow_on_run_finished},
)
retraining = define_asset_job(
    "retraining",
    selection=_FROM_FEATURES,
    description="A new model from the batches that are cleaned already, with its own window and parameters.",
    tags=_TAGS,
    hooks={end_mlflow_on_run_finished},
)

hyperparameter_search = define_asset_job(
    "hyperparameter_search",
    selection=AssetSelection.assets("tuned_parameters"),
    description="Better parameters of the boosted trees, for the next trainings; on demand.",
)
comparison = define_asset_job(
    "comparison",
    selection=AssetSelection.assets("live_comparison"),
    description="The version in service against the former one on live requests; rolls back by evidence.",
)


@schedule(
    job=retraining,
    cron_schedule=settings().retraining_cron,
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Trains over the accumulated batches when the model in service does not know them all.",
)
def nightly_retraining(context: ScheduleEvaluationContext, lake: Lake) -> RunRequest | SkipReason:
    """Takes up what trainings that failed have left."""
    if unfinished_training(context.instance):
        return SkipReason("A training is under way.")
    try:
        batches = look_at_incoming(lake, known={}).batches.values()
        versions = [BatchVersion(batch=batch.name, fingerprint=batch.fingerprint) for batch in batches]
        good = {v.batch: v.fingerprint for v in versions if quarantine_reason(lake, v) is None}
        trained = read_trained(lake)
    except UnavailableError as error:
        return SkipReason(str(error))
    if not good:
        return SkipReason("There is no batch to learn from.")
    if trained is not None and dict(trained.fingerprints) == good:
        return SkipReason(f"Nothing has changed since version {trained.model_version} was trained.")
    return RunRequest(run_key=None)
