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

from usedcars_assets.failures import clear_failures, explain
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

ROLLOUT_TAG = "rollout"
"""On a version: how its rollout went (`served`, `failed: …`, `rolled back …`), or BEGUN."""
BEGUN = "begun"
FORMER_TAG = "rollout_former"
"""On a version: the version that was in service when its rollout began, or nothing."""


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
        tags = client.get_model_version(name, version).tags
        told = tags.get(ROLLOUT_TAG, "")
        if told.startswith("rolled back"):
            raise Failure(
                f"Version {version} was {told}: it is not rolled out again. If it should be, remove its tag "
                "rollout in MLflow first.",
                allow_retries=False,
            )
        previous = version_with_alias(client, name, mlflow.serving_alias)
        if previous == version and told == BEGUN:
            # Its process was killed: the alias was moved, and nobody has seen the version answer.
            previous = tags.get(FORMER_TAG) or None
        untold: list[str] = []

        def tell(entry: Entry) -> None:
            if problem := write_entry(topics, entry):
                context.log.warning(problem)
                untold.append(problem)

        def tag(outcome: str) -> None:
            try:
                client.set_model_version_tag(name, version, ROLLOUT_TAG, outcome)
            except Exception as error:  # how the rollout went is said all the same
                problem = f"Version {version} has no tag {outcome!r}: {explain(error, 'tagging it')[0]}"
                context.log.warning(problem)
                untold.append(problem)

        with Answers(topics) as answers:
            client.set_model_version_tag(name, version, FORMER_TAG, previous or "")
            client.set_model_version_tag(name, version, ROLLOUT_TAG, BEGUN)
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
                tag(f"failed: {error}")
                raise Failure(
                    f"Version {version} did not come into service: {error}. {error.outcome}",
                    allow_retries=False,
                ) from error
        tag("served")
    rollout = Rollout(version=version, previous=previous, seconds_to_first_answer=seconds)
    metadata: dict[str, Any] = {
        "version": version,
        "previous_version": previous or "none",
        "seconds_to_first_answer": seconds,
        "model_version": MetadataValue.url(mlflow.version_url(name, version)),
        "ledger": " ".join(untold) or "told",
    }
    return Output(rollout, metadata=metadata)
