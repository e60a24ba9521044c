"""The code location: assets, checks, jobs, sensors, the schedule and the resources they use."""

from dagster import Definitions

from usedcars_assets.executor import threads_executor
from usedcars_assets.features.checks import feature_checks
from usedcars_assets.features.tables import feature_tables
from usedcars_assets.ingestion.batches import raw_listings
from usedcars_assets.ingestion.cleaned_listings import cleaned_listings
from usedcars_assets.ingestion.sensor import incoming_batches
from usedcars_assets.jobs import (
    comparison,
    hyperparameter_search,
    nightly_retraining,
    retraining,
    training,
)
from usedcars_assets.registry.model_card import model_card
from usedcars_assets.registry.registered_model import registered_model
from usedcars_assets.registry.sensors import lost_mlflow_runs
from usedcars_assets.registry.stage_timeline import stage_timeline
from usedcars_assets.registry.training_export import training_export
from usedcars_assets.resources.configured import configured_resources
from usedcars_assets.rollout.input_drift import input_drift, input_drift_looks
from usedcars_assets.rollout.live_comparison import live_comparison, live_evidence
from usedcars_assets.rollout.live_metrics import live_metrics, live_metrics_windows
from usedcars_assets.rollout.new_versions import new_versions, rollout
from usedcars_assets.rollout.promotion_ledger import new_ledger_entries, promotion_ledger
from usedcars_assets.rollout.serving_rollout import serving_rollout
from usedcars_assets.training.checks import model_checks
from usedcars_assets.training.members import MEMBER_ASSETS
from usedcars_assets.training.reproduction import reproduction
from usedcars_assets.training.stacked_model import stacked_model
from usedcars_assets.training.tuned_parameters import tuned_parameters

defs = Definitions(
    assets=[
        raw_listings,
        cleaned_listings,
        feature_tables,
        tuned_parameters,
        *MEMBER_ASSETS,
        stacked_model,
        registered_model,
        training_export,
        model_card,
        stage_timeline,
        serving_rollout,
        promotion_ledger,
        live_metrics,
        input_drift,
        live_comparison,
    ],
    asset_checks=[feature_checks, model_checks],
    jobs=[training, retraining, reproduction, hyperparameter_search, comparison, rollout],
    schedules=[nightly_retraining],
    sensors=[
        incoming_batches,
        lost_mlflow_runs,
        new_ledger_entries,
        live_metrics_windows,
        input_drift_looks,
        live_evidence,
        new_versions,
    ],
    executor=threads_executor,
    resources=configured_resources(),
)
