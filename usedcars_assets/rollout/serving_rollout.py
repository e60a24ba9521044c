"""Brings a registered version into service, or puts the former one back."""

import time
from dataclasses import dataclass
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


_PATIENCE_WITHOUT_RESTART = 30.0


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
    """Moves the alias and waits for answers; undoes that when they do not come.

    Serving follows the alias: it prepares the version beside the former one, which answers until then.
    """
    version = registered_model.version
    with clear_failures(f"rolling out version {version}"):
        client = mlflow.client()
        serving = deployment.connect()
        context.log.info(serving.describe())
        previous = version_with_alias(client, registered_model.name, mlflow.serving_alias)
        with Answers(topics) as answers:
            service = _Service(
                client=client,
                name=registered_model.name,
                alias=mlflow.serving_alias,
                serving=serving,
                answers=answers,
                listing=registered_model.input_example,
                timeout=config.timeout_seconds,
            )
            try:
                seconds = service.bring(version)
            except BaseException as error:
                # Who cancels the run does not wait for answers.
                outcome = service.put_back(previous, wait=isinstance(error, Exception))
                if not isinstance(error, Exception):
                    raise
                reason = _reason(error)
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


@dataclass(frozen=True)
class _Service:
    """Serving, the alias that tells it which version to run, and its answers."""

    client: "MlflowClient"
    name: str
    alias: str
    serving: Deployment
    answers: Answers
    listing: str
    timeout: float

    def bring(self, version: str) -> float:
        """Moves the alias; the seconds until the version answered."""
        started = time.monotonic()
        self.client.set_registered_model_alias(self.name, self.alias, version)
        self.serving.start()
        self._await(version, self.timeout)
        return time.monotonic() - started

    def put_back(self, previous: str | None, *, wait: bool) -> str:
        """Undoes the rollout and says how that went."""
        try:
            if previous is None:
                self.client.delete_registered_model_alias(self.name, self.alias)
                self.serving.restart()
                return "There was no version before it: serving waits for the next."
            self.client.set_registered_model_alias(self.name, self.alias, previous)
            self.serving.start()
            if not wait:
                return f"Version {previous} is put back."
            try:
                self._await(previous, min(self.timeout, _PATIENCE_WITHOUT_RESTART))
            except NoAnswerError:  # serving may hang in the version that did not answer
                self.serving.restart()
                self._await(previous, self.timeout)
        except Exception as problem:
            known = previous or "none"
            return f"Version {known} could not be put back: {_reason(problem)}; restart serving by hand."
        return f"Version {previous} is back and answers."

    def _await(self, version: str, seconds: float) -> None:
        self.answers.wait_for(version, self.listing, seconds, self.serving.why_not)


def _reason(error: Exception) -> str:
    sentence = str(error) if isinstance(error, NoAnswerError) else explain(error, "rolling out")[0]
    return sentence.rstrip(".")
