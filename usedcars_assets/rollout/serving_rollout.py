"""Brings a registered version into service, or puts the former one back."""

from typing import Any

from dagster import (
    AssetExecutionContext,
    Config,
    Failure,
    MetadataValue,
    OpExecutionContext,
    Output,
    asset,
)
from pydantic import Field

from usedcars_assets.failures import clear_failures
from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.references import RegisteredVersion, Rollout
from usedcars_assets.registry.versions import version_with_alias
from usedcars_assets.resources.deployment import ServingDeployment
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.answers import Answers
from usedcars_assets.rollout.ledger import Entry, write_entry
from usedcars_assets.rollout.service import Service, UndoneError
from usedcars_assets.settings import settings


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
    """Moves the alias and waits for answers; undoes that when they do not come."""
    return roll_out(
        context.op_execution_context,
        registered_model.version,
        registered_model.input_example,
        config.timeout_seconds,
        mlflow,
        deployment,
        topics,
    )


def roll_out(
    context: OpExecutionContext,
    version: str,
    listing: str,
    timeout_seconds: float,
    mlflow: MlflowTracking,
    deployment: ServingDeployment,
    topics: Topics,
) -> Output[Rollout]:
    """Brings a version into service, for which `listing` (JSON) is asked again and again as a probe.

    Serving follows the alias: it prepares the version beside the former one, which answers until then.
    Raises Failure when the version did not answer; the former one is back by then.
    """
    name = mlflow.registered_model
    with clear_failures(f"rolling out version {version}"):
        client = mlflow.client()
        serving = deployment.connect()
        context.log.info(serving.describe())
        told = client.get_model_version(name, version).tags.get("rollout", "")
        if told.startswith("rolled back"):
            raise Failure(
                f"Version {version} was {told}: it is not rolled out again. If it should be, remove its tag "
                "rollout in MLflow first.",
                allow_retries=False,
            )
        previous = version_with_alias(client, name, mlflow.serving_alias)
        untold: list[str] = []

        def tell(entry: Entry) -> None:
            if problem := write_entry(topics, entry):
                context.log.warning(problem)
                untold.append(problem)

        with Answers(topics) as answers:
            service = Service(
                client=client,
                name=name,
                alias=mlflow.serving_alias,
                serving=serving,
                answers=answers,
                listing=listing,
                timeout=timeout_seconds,
                tell=tell,
                run_id=context.run_id,
            )
            try:
                seconds = service.change("rollout", version, previous)
            except UndoneError as error:
                client.set_model_version_tag(name, version, "rollout", f"failed: {error}")
                raise Failure(
                    f"Version {version} did not come into service: {error}. {error.outcome}",
                    allow_retries=False,
                ) from error
        client.set_model_version_tag(name, version, "rollout", "served")
    rollout = Rollout(version=version, previous=previous, seconds_to_first_answer=seconds)
    metadata: dict[str, Any] = {
        "version": version,
        "previous_version": previous or "none",
        "seconds_to_first_answer": seconds,
        "model_version": MetadataValue.url(mlflow.version_url(name, version)),
        "ledger": " ".join(untold) or "told",
    }
    return Output(rollout, metadata=metadata)
