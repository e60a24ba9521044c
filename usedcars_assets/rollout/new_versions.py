"""Versions that someone registered, also by hand in MLflow's UI, are rolled out like those of a training."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagster import (
    AssetMaterialization,
    Config,
    DagsterInstance,
    DefaultSensorStatus,
    Failure,
    OpExecutionContext,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    job,
    op,
    sensor,
)
from pydantic import Field

from usedcars_assets.executor import threads_executor
from usedcars_assets.failures import clear_failures, explain
from usedcars_assets.ingestion.batches import TRAINING_TAG
from usedcars_assets.ingestion.claims import CLAIM_TAG, BatchVersion, claim, latest_claim
from usedcars_assets.ingestion.under_way import unfinished_training
from usedcars_assets.registry.versions import input_example, version_with_alias
from usedcars_assets.resources.deployment import ServingDeployment
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.serving_rollout import BEGUN, ROLLOUT_TAG, roll_out, serving_rollout
from usedcars_assets.settings import settings

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_MOST_ATTEMPTS = 3
"""To roll out a version whose rollout is killed again and again."""


class VersionConfig(Config):
    """Which version, and how patient its rollout is."""

    version: str = Field(description="Version of the registered model.")
    timeout_seconds: float = Field(
        default=settings().rollout_timeout_seconds, gt=0, description="How long to wait for answers."
    )


@op(description="Brings a version that is registered in MLflow into service, whoever registered it.")
def roll_out_version(
    context: OpExecutionContext,
    config: VersionConfig,
    mlflow: MlflowTracking,
    deployment: ServingDeployment,
    topics: Topics,
) -> None:
    """The rollout of the asset serving_rollout, without a training before it."""
    version, name = config.version, mlflow.registered_model
    with clear_failures(f"rolling out version {version}"):
        listing = input_example(mlflow, name, version)
    if listing is None:
        raise Failure(
            f"Version {version} of {name} has no input example with a column listing, so it can't be tried: "
            "log the model again with one.",
            allow_retries=False,
        )
    output = roll_out(context, version, listing, config.timeout_seconds, mlflow, deployment, topics)
    context.log_event(AssetMaterialization(serving_rollout.key, metadata=output.metadata))


@job(
    name="rollout",
    description="A version registered by anyone comes into service, or the former one stays.",
    # A training rolls out as well: one after the other.
    tags={TRAINING_TAG: "true"},
    executor_def=threads_executor,
)
def rollout() -> None:
    """One version."""
    roll_out_version()


@sensor(
    name="new_versions",
    job=rollout,
    minimum_interval_seconds=settings().versions_interval_seconds,
    default_status=DefaultSensorStatus.RUNNING,
    description="Rolls out the newest version of the registered model, unless a rollout has tried it before.",
)
def new_versions(context: SensorEvaluationContext, mlflow: MlflowTracking, lake: Lake) -> SensorResult:
    """One look at the registry."""
    # A training's own version is not ours to roll out, and two rollouts would disturb each other.
    if run := unfinished_training(context.instance):
        return SensorResult(skip_reason=f"{run.job_name.capitalize()} {run.run_id[:8]} is under way.")
    try:
        client, name = mlflow.client(), mlflow.registered_model
        served = version_with_alias(client, name, mlflow.serving_alias)
        waiting = version_to_roll_out(client.search_model_versions(f"name='{name}'"), served)
        if waiting is None:
            return SensorResult(skip_reason=f"No version is newer than {served or 'none'}, and untried.")
        run_key, reason = _claim(context.instance, lake, waiting, time.time())
    except Exception as error:
        return SensorResult(skip_reason=explain(error, "looking for new versions")[0])
    if run_key is None:
        return SensorResult(skip_reason=reason)
    request = RunRequest(
        run_key=run_key,
        tags={TRAINING_TAG: "true", CLAIM_TAG: run_key},
        run_config={"ops": {roll_out_version.name: {"config": {"version": str(waiting.version)}}}},
    )
    return SensorResult(run_requests=[request])


def version_to_roll_out(versions: "Sequence[ModelVersion]", served: str | None) -> "ModelVersion | None":
    """The newest version that is ready, newer than the one in service, and that no rollout has tried.

    Or the one whose rollout was killed: it may have the alias, and nobody has seen it answer.
    """
    ready = [version for version in versions if version.status == "READY"]
    newest = max(ready, key=lambda version: int(version.version), default=None)
    if newest is None:
        return None
    told, in_service = newest.tags.get(ROLLOUT_TAG), int(served or 0)
    is_new = not told and int(newest.version) > in_service
    was_killed = told == BEGUN and int(newest.version) >= in_service
    return newest if is_new or was_killed else None


def _claim(
    instance: DagsterInstance, lake: Lake, waiting: "ModelVersion", now: float
) -> tuple[str | None, str]:
    """The key of the one run for this version; None, and why, when another look has it."""
    version, was_killed = str(waiting.version), waiting.tags.get(ROLLOUT_TAG) == BEGUN
    # As a batch is claimed, with the version for its content.
    subject = BatchVersion(batch=f"versions/{waiting.name}", fingerprint=version)
    former = latest_claim(lake, subject)
    if former is not None:
        runs = instance.get_runs(RunsFilter(tags={CLAIM_TAG: former.run_key}), limit=1)
        if runs and not (was_killed and former.attempt < _MOST_ATTEMPTS):
            return None, (
                f"Version {version} was tried by run {runs[0].run_id[:8]} ({runs[0].status.value.lower()}): "
                "run the job rollout by hand to try it again."
            )
        if not runs and now - former.claimed_at < settings().claim_timeout_seconds:
            return None, f"A rollout of version {version} is about to appear."
    attempt = former.attempt + 1 if former else 1
    return claim(lake, {subject: attempt}, now), f"Another look claimed version {version}."
