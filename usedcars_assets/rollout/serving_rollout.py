"""Brings a registered version into service, or puts the former one back."""

import time
from typing import TYPE_CHECKING, Any

from dagster import AssetExecutionContext, Config, Failure, MetadataValue, Output, asset
from pydantic import Field

from usedcars_assets.failures import clear_failures, explain
from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.references import RegisteredVersion, Rollout
from usedcars_assets.registry.versions import version_with_alias
from usedcars_assets.resources.deployment import Deployment, ServingDeployment
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.answers import Answers, NoAnswerError
from usedcars_assets.settings import settings

if TYPE_CHECKING:
    from mlflow import MlflowClient


class RolloutConfig(Config):
    """How patient the rollout is."""

    timeout_seconds: float = Field(
        default=settings().rollout_timeout_seconds, gt=0, description="How long to wait for answers."
    )


@asset(
    name="serving_rollout",
    description="The registered version in service: it has been seen to answer price requests.",
    group_name="rollout",
    owners=OWNERS,
    tags={"layer": "serving"},
    kinds={"kafka", "mlflow"},
    code_version="1",
)
def serving_rollout(
    context: AssetExecutionContext,
    config: RolloutConfig,
    registered_model: RegisteredVersion,
    mlflow: MlflowTracking,
    deployment: ServingDeployment,
    topics: Topics,
) -> Output[Rollout]:
    """Moves the alias, restarts serving and waits for answers; undoes that when they do not come."""
    version = registered_model.version
    with clear_failures(f"rolling out version {version}"):
        client = mlflow.client()
        serving = deployment.connect()
        context.log.info(serving.describe())
        previous = version_with_alias(client, registered_model.name, settings().serving_alias)
        with Answers(topics) as answers:
            try:
                seconds = _serve(client, serving, answers, registered_model, version, config.timeout_seconds)
            except BaseException as error:
                outcome = _put_back(client, serving, answers, registered_model, previous, error, config)
                if not isinstance(error, Exception):
                    raise
                reason = str(error) if isinstance(error, NoAnswerError) else explain(error, "rolling out")[0]
                client.set_model_version_tag(registered_model.name, version, "rollout", f"failed: {reason}")
                raise Failure(
                    f"Version {version} did not come into service: {reason}. {outcome}", allow_retries=False
                ) from error
        client.set_model_version_tag(registered_model.name, version, "rollout", "served")
    rollout = Rollout(version=version, previous=previous, seconds_to_first_answer=seconds)
    metadata: dict[str, Any] = {
        "version": version,
        "previous_version": previous or "none",
        "seconds_to_first_answer": seconds,
        "model_version": MetadataValue.url(mlflow.version_url(registered_model.name, version)),
    }
    return Output(rollout, metadata=metadata)


def _serve(
    client: "MlflowClient",
    serving: Deployment,
    answers: Answers,
    registered: RegisteredVersion,
    version: str,
    timeout: float,
) -> float:
    """Returns the seconds from the stop of the former version to the first answer of this one."""
    started = time.monotonic()
    client.set_registered_model_alias(registered.name, settings().serving_alias, version)
    serving.restart()
    answers.wait_for(version, registered.input_example, timeout, serving.why_dead)
    return time.monotonic() - started


def _put_back(
    client: "MlflowClient",
    serving: Deployment,
    answers: Answers,
    registered: RegisteredVersion,
    previous: str | None,
    error: BaseException,
    config: RolloutConfig,
) -> str:
    """Undoes the rollout and says how that went."""
    try:
        if previous is None:
            client.delete_registered_model_alias(registered.name, settings().serving_alias)
            serving.restart()
            return "There was no version before it: serving waits for the next."
        if not isinstance(error, Exception):  # the run was cancelled: don't wait
            client.set_registered_model_alias(registered.name, settings().serving_alias, previous)
            serving.restart()
            return f"Version {previous} is put back."
        _serve(client, serving, answers, registered, previous, config.timeout_seconds)
    except Exception as problem:
        reason = str(problem) if isinstance(problem, NoAnswerError) else explain(problem, "putting back")[0]
        return f"Version {previous or 'none'} could not be put back: {reason}; restart serving by hand."
    return f"Version {previous} is back and answers."
