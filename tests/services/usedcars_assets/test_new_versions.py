"""Versions registered by anyone: seen once, whoever looks, and rolled out by a run of their own."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus, RunRequest, build_sensor_context
from mlflow import MlflowClient

from tests.rollouts import tracking
from usedcars_assets.definitions import defs
from usedcars_assets.ingestion.batches import TRAINING_TAG
from usedcars_assets.ingestion.claims import CLAIM_TAG
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.rollout.new_versions import new_versions

pytestmark = pytest.mark.services


class Registry:
    """A model of its own name."""

    def __init__(self, uri: str) -> None:
        self.name = f"versions-{uuid.uuid4().hex[:8]}"
        self.mlflow: MlflowTracking = tracking(uri, self.name)
        self.client: MlflowClient = self.mlflow.client()
        self.client.create_registered_model(self.name)

    def register(self, **tags: str) -> str:
        run = self.client.create_run(self.mlflow.experiment_id()).info
        self.client.set_terminated(run.run_id)
        version = self.client.create_model_version(
            self.name, f"{run.artifact_uri}/model", run.run_id, tags=tags
        )
        return str(version.version)


@pytest.fixture
def registry(platform: Any) -> Registry:
    return Registry(platform.environment["USEDCARS_MLFLOW_TRACKING_URI"])


@pytest.fixture
def look(registry: Registry, lake: Lake, instance: DagsterInstance) -> Callable[[], Any]:
    def once() -> Any:
        resources = {"mlflow": registry.mlflow, "lake": lake}
        with build_sensor_context(instance=instance, resources=resources, definitions=defs) as context:
            return new_versions(context)

    return once


def launch_and_fail(instance: DagsterInstance, request: RunRequest) -> None:
    """The run that was asked for, as its process leaves it when it is killed."""
    instance.create_run_for_job(
        defs.resolve_job_def("rollout"),
        run_config=request.run_config,
        status=DagsterRunStatus.FAILURE,
        tags={CLAIM_TAG: request.tags[CLAIM_TAG]},
    )


def test_a_version_registered_by_hand_gets_one_rollout_however_often_it_is_looked(
    registry: Registry, look: Any
) -> None:
    registry.register()
    newest = registry.register()
    (request,) = look().run_requests
    config = request.run_config["ops"]["roll_out_version"]["config"]
    assert config["version"] == newest
    assert request.tags[TRAINING_TAG] == "true"
    again = look()
    assert not again.run_requests
    assert "about to appear" in again.skip_reason.skip_message


def test_a_version_that_was_tried_before_or_is_older_than_the_one_in_service_is_left_alone(
    registry: Registry, look: Any
) -> None:
    registry.register(rollout="served")
    registry.register(rollout="failed: it did not answer")
    assert "untried" in look().skip_reason.skip_message
    newest = registry.register()
    registry.client.set_registered_model_alias(registry.name, "serving", newest)
    assert "untried" in look().skip_reason.skip_message


def test_a_version_whose_rollout_was_killed_is_tried_again_and_not_for_ever(
    registry: Registry, look: Any, instance: DagsterInstance
) -> None:
    version = registry.register(rollout="begun")
    registry.client.set_registered_model_alias(registry.name, "serving", version)
    for _ in range(3):
        (request,) = look().run_requests
        launch_and_fail(instance, request)
    assert "by hand" in look().skip_reason.skip_message


def test_while_a_training_runs_its_version_is_left_to_it(
    registry: Registry, look: Any, instance: DagsterInstance
) -> None:
    registry.register()
    run = instance.create_run_for_job(
        defs.resolve_job_def("training"), status=DagsterRunStatus.STARTED, tags={TRAINING_TAG: "true"}
    )
    assert "under way" in look().skip_reason.skip_message
    instance.report_run_failed(run)
    chosen = frozenset({AssetKey("serving_rollout")})
    by_hand = instance.create_run_for_job(
        defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection=chosen),
        status=DagsterRunStatus.STARTED,
        asset_selection=chosen,
    )
    assert "under way" in look().skip_reason.skip_message
    instance.report_run_failed(by_hand)
    assert len(look().run_requests) == 1


def test_a_rollout_that_ran_is_not_started_again_and_the_sentence_says_how_to(
    registry: Registry, look: Any, instance: DagsterInstance
) -> None:
    registry.register()
    (request,) = look().run_requests
    launch_and_fail(instance, request)
    sentence = look().skip_reason.skip_message
    assert "was tried by run" in sentence
    assert "by hand" in sentence


def test_while_mlflow_is_away_the_look_says_so(registry: Registry, lake: Lake) -> None:
    away = tracking("http://127.0.0.1:9", registry.name)
    resources = {"mlflow": away, "lake": lake}
    with build_sensor_context(
        instance=DagsterInstance.ephemeral(), resources=resources, definitions=defs
    ) as context:
        found: Any = new_versions(context)
    assert "MLflow does not answer" in found.skip_reason.skip_message
