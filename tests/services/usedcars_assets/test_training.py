"""A small training through the real assets: what is registered, logged, exported, and then reproduced."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from dagster import (
    DagsterInstance,
    ExecuteInProcessResult,
    build_sensor_context,
    instance_for_test,
    job,
    materialize,
)
from mlflow import MlflowClient
from mlflow.entities import Run
from pyspark.sql import SparkSession

from tests.conftest import Platform
from tests.services.usedcars_assets.conftest import Source, once_hdfs_is_back
from tests.services.usedcars_assets.raw_rows import raw_csv, raw_rows
from usedcars_assets.definitions import defs
from usedcars_assets.features.checks import feature_checks
from usedcars_assets.features.tables import feature_tables
from usedcars_assets.ingestion.cleaned_listings import cleaned_listings
from usedcars_assets.ingestion.trained import read_trained
from usedcars_assets.registry.lost_runs import end_lost_runs
from usedcars_assets.registry.model_card import model_card
from usedcars_assets.registry.registered_model import registered_model
from usedcars_assets.registry.sensors import lost_mlflow_runs
from usedcars_assets.registry.training_export import training_export
from usedcars_assets.resources.configured import configured_resources
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.settings import Settings
from usedcars_assets.training.checks import model_checks
from usedcars_assets.training.members import CONFIGS, MEMBER_ASSETS, MEMBER_NAMES
from usedcars_assets.training.reproduction import reproduction
from usedcars_assets.training.stacked_model import stacked_model
from usedcars_assets.training.tuned_parameters import tuned_parameters

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("spark")]

MODEL = "small-training"
MEMBERS = ["gradient_boosting", "elastic_net", "random_forest"]
FOLDS = 2
ASSETS = [
    *(cleaned_listings, feature_tables, feature_checks, *MEMBER_ASSETS, stacked_model, model_checks),
    *(registered_model, training_export, model_card),
]


@job
def any_job() -> None: ...


@dataclass(frozen=True)
class SmallTraining:
    """A training over two batches of which the first is left out of the window."""

    result: ExecuteInProcessResult
    resources: dict[str, Any]
    instance: DagsterInstance

    @property
    def lake(self) -> Lake:
        found = self.resources["lake"]
        assert isinstance(found, Lake)
        return found

    @property
    def tracking(self) -> MlflowTracking:
        found = self.resources["mlflow"]
        assert isinstance(found, MlflowTracking)
        return found

    @property
    def client(self) -> MlflowClient:
        return self.tracking.client()

    def output(self, asset: str) -> Any:
        return self.lake.read_json(f"assets/{asset}.json")

    def nested(self, parent: str) -> dict[str, Run]:
        found = self.client.search_runs(
            [self.tracking.experiment_id()], f"tags.mlflow.parentRunId = '{parent}'"
        )
        return {run.info.run_name: run for run in found}


@pytest.fixture(scope="module")
def training(platform: Any, spark: SparkSession) -> Iterator[SmallTraining]:
    values = Settings()  # type: ignore[call-arg]
    values = values.model_copy(
        update={
            "lake_uri": values.lake_uri.removesuffix("/usedcars") + "/tests/small-training",
            "mlflow_experiment": MODEL,
            "registered_model": MODEL,
        }
    )
    resources = configured_resources(values)
    resources["lake"].delete("")
    source = Source(values)
    source.deliver("left-out", raw_csv(raw_rows(30, seed=1, first_id=1000)))
    source.deliver("learnt", raw_csv(raw_rows(700, seed=2, first_id=5000)))
    with instance_for_test() as instance:
        instance.add_dynamic_partitions("batches", ["left-out", "learnt"])
        result = materialize(
            ASSETS,
            resources=resources,
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": "left-out",
                "dagster/asset_partition_range_end": "learnt",
            },
            run_config={
                "ops": {
                    "feature_tables": {
                        "config": {"folds": FOLDS, "members": MEMBERS, "last_batches": 1, "seed": 7}
                    },
                    "gradient_boosting": {"config": {"n_estimators": 20, "max_depth": 4}},
                    "random_forest": {"config": {"trees": 3, "max_depth": 4}},
                }
            },
        )
        yield SmallTraining(result, resources, instance)


def test_every_asset_is_made_and_every_check_passes(training: SmallTraining) -> None:
    assert training.result.success
    evaluations = training.result.get_asset_check_evaluations()
    assert {check.check_name for check in evaluations} >= {
        *("price_leakage", "train_and_test_apart", "no_missing_features"),
        *("artefact_equals_steps", "model_quality", "not_worse_than_serving"),
    }
    assert [check.check_name for check in evaluations if not check.passed] == []


def test_the_window_holds_only_the_last_batches_that_were_asked_for(training: SmallTraining) -> None:
    record = training.output("train_features")["training"]
    assert [version["batch"] for version in record["batches"]] == ["learnt"]
    assert [version["batch"] for version in record["left_out"]] == ["left-out"]


def test_a_member_that_is_not_asked_for_is_left_out_and_does_not_stop_the_rest(
    training: SmallTraining,
) -> None:
    assert training.output("support_vector")["trained"] is False
    assert set(training.output("stacked_model")["weights"]) == set(MEMBERS)


def test_the_parent_run_and_all_runs_below_it_are_ended(training: SmallTraining) -> None:
    parent = training.output("train_features")["training"]["mlflow_run_id"]
    below = training.nested(parent)
    assert set(below) == {*MEMBERS, "stacked_model"}
    runs = [training.client.get_run(parent), *below.values()]
    for member in MEMBERS:
        folds = training.nested(below[member].info.run_id)
        assert set(folds) == {f"{member}-fold-{fold}" for fold in range(FOLDS)}
        runs += folds.values()
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_parameters_metrics_and_where_they_come_from_are_logged(training: SmallTraining) -> None:
    parent = training.output("train_features")["training"]["mlflow_run_id"]
    run = training.client.get_run(parent).data
    assert run.params["folds"] == str(FOLDS)
    assert run.params["pyspark"].startswith("4.")
    assert run.params["data_version"] == training.output("train_features")["training"]["data_version"]
    assert run.metrics["train_rows"] + run.metrics["test_rows"] == 700
    assert training.result.run_id in run.tags["dagster_run_url"]
    member = training.nested(parent)["gradient_boosting"].data
    assert member.params["n_estimators"] == "20"
    for metric in ("rmse", "mae", "mape", "r2", "median_absolute_error"):
        assert {f"train_{metric}", f"test_{metric}", f"cv_{metric}_mean", f"cv_{metric}_deviation"} <= set(
            member.metrics
        )
        assert math.isfinite(run.metrics[f"test_{metric}"])
    assert {"training_seconds", "validation_seconds"} <= set(member.metrics)
    stack = training.nested(parent)["stacked_model"]
    for run in (training.nested(parent)["gradient_boosting"], stack):
        assert {"train_rmse", "cv_rmse_mean", "cv_rmse_deviation", "test_rmse"} <= set(run.data.metrics)
        assert {"training_seconds", "validation_seconds"} <= set(run.data.metrics)
    files = training.client.list_artifacts(training.nested(parent)["elastic_net"].info.run_id)
    assert [file.path for file in files] == ["predicted_against_true.png"]
    boosting = training.nested(parent)["gradient_boosting"].info.run_id
    files = training.client.list_artifacts(boosting)
    assert {file.path for file in files} == {"learning_curves.png", "predicted_against_true.png"}
    (fold, *_) = training.nested(boosting).values()
    curve = training.client.get_metric_history(fold.info.run_id, "unseen_log_price_rmse")
    assert [point.step for point in curve] == list(range(1, 21))
    assert curve[-1].value < curve[0].value
    artifacts = {file.path for file in training.client.list_artifacts(parent)}
    assert {"model", "predicted_against_true.png", "batches.json"} <= artifacts


def test_the_registered_version_is_a_spark_pipeline_that_prices_its_own_example(
    training: SmallTraining, spark: SparkSession
) -> None:
    registered = training.output("registered_model")
    version = training.client.get_model_version_by_alias(MODEL, "candidate")
    assert str(version.version) == registered["version"]
    assert version.tags["training_id"] == registered["training"]["training_id"]
    mlflow.set_tracking_uri(training.tracking.tracking_uri)
    uri = f"models:/{MODEL}/{version.version}"
    signature = mlflow.models.get_model_info(uri).signature
    assert [column.name for column in signature.inputs] == ["listing"]
    assert [column.name for column in signature.outputs] == [
        *("price", "price_low", "price_high", "rejection", "rejection_field")
    ]
    example = mlflow.models.Model.load(uri).load_input_example(mlflow.artifacts.download_artifacts(uri))
    assert isinstance(example, pd.DataFrame)
    (row,) = mlflow.spark.load_model(uri).transform(spark.createDataFrame(example)).collect()
    assert row.rejection is None
    assert 1_000 < row.price < 100_000
    # What `mlflow models serve` does.
    assert mlflow.pyfunc.load_model(uri).predict(example) == [pytest.approx(row.price)]


def test_what_was_learnt_is_recorded_for_the_sensor_with_what_the_window_left_out(
    training: SmallTraining,
) -> None:
    record = read_trained(training.lake)
    assert record is not None
    assert set(record.fingerprints) == {"learnt", "left-out"}
    assert record.model_version == training.output("registered_model")["version"]


def test_the_version_has_a_card_that_tells_its_errors_and_where_they_are_large(
    training: SmallTraining,
) -> None:
    record = training.output("model_card")
    run_id = record["mlflow_run_id"]
    assert run_id == training.output("train_features")["training"]["mlflow_run_id"]
    artifacts = {file.path for file in training.client.list_artifacts(run_id)}
    assert {"model_card.md", "model_card.html"} <= artifacts
    card = Path(training.client.download_artifacts(run_id, "model_card.md")).read_text()
    assert card.startswith(f"# {MODEL}, version {record['version']}\n")
    test = training.output("stacked_model")["test"]
    assert f"| stacked_model | {test['rows']:,.0f} | {test['rmse']:,.0f} |" in card
    errors, importance = (
        json.loads(Path(training.client.download_artifacts(run_id, name)).read_text())
        for name in ("errors_by_slice.json", "permutation_importance.json")
    )
    assert importance["make, model and trim"]["rmse"] > importance["nothing"]["rmse"]
    for bands in ("price (USD)", "age"):
        assert sum(one["metrics"]["rows"] for one in errors[bands]) == test["rows"]


def test_registering_once_more_does_not_mix_the_files_of_two_versions(
    training: SmallTraining, spark: SparkSession
) -> None:
    again = materialize(
        [*ASSETS],
        selection=[registered_model],
        resources=training.resources,
        instance=training.instance,
    )
    assert again.success
    version = training.output("registered_model")["version"]
    mlflow.set_tracking_uri(training.tracking.tracking_uri)
    assert len(mlflow.spark.load_model(f"models:/{MODEL}/{version}").stages) > 5


def test_a_version_trained_again_from_its_own_export_has_the_same_errors(
    training: SmallTraining, spark: SparkSession
) -> None:
    export = training.output("training_export")
    rows = spark.read.parquet(training.lake.uri(export["path"]))
    assert rows.count() == 700
    assert {"split", "fold", "listing", "price_usd"} <= set(rows.columns)
    result = reproduction.execute_in_process(
        run_config={"ops": {"reproduce": {"config": {"model_version": export["version"]}}}},
        resources={name: training.resources[name] for name in ("lake", "spark")},
    )
    assert result.success
    left = [entry["pathSuffix"] for entry in training.lake.entries("trainings")]
    assert not [name for name in left if name.startswith("reproduction")]


def test_stacking_members_of_different_trainings_is_refused(training: SmallTraining) -> None:
    path = "assets/elastic_net.json"
    record = training.output("elastic_net")
    other = {**record, "training": {**record["training"], "training_id": "an-earlier-one"}}
    training.lake.write_json(path, other)
    try:
        result = materialize(
            [*ASSETS],
            selection=[stacked_model],
            resources=training.resources,
            instance=training.instance,
            raise_on_error=False,
        )
    finally:
        training.lake.write_json(path, record)
    (event,) = result.get_step_failure_events()
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert "elastic_net and feature_pipeline are of different trainings" in str(failure.description)


STAGES = (feature_tables, MEMBER_ASSETS[MEMBER_NAMES.index("elastic_net")], stacked_model, registered_model)


@pytest.mark.parametrize(
    ("service", "said"), [("mlflow", "MLflow does not answer"), ("namenode", "HDFS does not answer")]
)
def test_while_a_service_is_away_each_stage_says_so_and_leaves_what_was_there(
    platform: Platform, training: SmallTraining, monkeypatch: pytest.MonkeyPatch, service: str, said: str
) -> None:
    names = [key.path[-1] for stage in STAGES for key in stage.keys]
    before = {name: training.output(name) for name in names}
    failed = {}
    with platform.without(service):
        for stage in STAGES:
            monkeypatch.setattr(stage.op, "_retry_policy", None)
            result = materialize(
                [*ASSETS],
                selection=[stage],
                resources=training.resources,
                instance=training.instance,
                raise_on_error=False,
            )
            (event,) = result.get_step_failure_events()
            failed[result.run_id] = event.step_failure_data
    for failure in failed.values():
        assert failure.user_failure_data is not None
        assert said in str(failure.user_failure_data.description)
    assert once_hdfs_is_back(lambda: {name: training.output(name) for name in names})() == before
    end_lost_runs(training.instance, training.tracking)
    left = training.client.search_runs([training.tracking.experiment_id()], "attributes.status = 'RUNNING'")
    tags = ("usedcars.dagster_run_id", "dagster_run_id")
    assert not [run for run in left if {run.data.tags.get(tag) for tag in tags} & set(failed)]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda instance, run: instance.report_run_failed(run), "FAILED"),
        (lambda instance, run: instance.report_run_canceled(run), "KILLED"),
        (lambda instance, run: None, "RUNNING"),
    ],
    ids=["failed or killed", "cancelled", "still under way"],
)
def test_no_mlflow_run_is_left_running_after_its_dagster_run_is_over(
    training: SmallTraining, end: Callable[[DagsterInstance, Any], None], status: str
) -> None:
    instance, client = training.instance, training.client
    run = instance.create_run_for_job(any_job)
    experiment = training.tracking.experiment_id()
    parent = client.create_run(experiment, tags={"dagster_run_id": run.run_id}).info.run_id
    below = client.create_run(experiment, tags={"usedcars.dagster_run_id": run.run_id}).info.run_id
    unknown = client.create_run(experiment, tags={"dagster_run_id": "of-another-dagster"}).info.run_id
    end(instance, run)
    with build_sensor_context(
        instance=instance, resources={"mlflow": training.tracking}, definitions=defs
    ) as context:
        look: Any = lost_mlflow_runs(context)
    assert ("Ended" in look.skip_reason.skip_message) == (status != "RUNNING")
    assert {client.get_run(run_id).info.status for run_id in (parent, below)} == {status}
    assert client.get_run(unknown).info.status == "RUNNING"
    client.set_terminated(unknown)


def test_what_a_search_finds_is_taken_by_the_next_training_where_nobody_has_said_otherwise(
    training: SmallTraining,
) -> None:
    said = {"n_estimators": 20, "max_depth": 4}

    def make(asset: Any, **config: Any) -> None:
        name = asset.op.name
        done = materialize(
            [*ASSETS, tuned_parameters],
            selection=[asset],
            resources=training.resources,
            instance=training.instance,
            run_config={"ops": {name: {"config": config}}},
        )
        assert done.success

    make(tuned_parameters, members=["gradient_boosting"], trials=2)
    found = training.output("tuned_parameters")["members"]["gradient_boosting"]
    assert found["error"] <= found["error_before"]
    tried = training.nested(found["mlflow_run_id"])
    assert set(tried) == {"trial 0", "trial 1"}
    assert min(run.data.metrics["error"] for run in tried.values()) == found["error"]

    boosting = MEMBER_ASSETS[MEMBER_NAMES.index("gradient_boosting")]
    make(boosting, **said)
    assert training.output("gradient_boosting")["parameters"] == {**found["parameters"], **said}
    make(boosting, **said, tuned=False)
    learnt = training.output("gradient_boosting")["parameters"]
    assert learnt == {
        **CONFIGS["gradient_boosting"]().model_dump(exclude={"tuned", "warm_start_share"}),
        **said,
    }


def test_a_training_with_few_new_rows_goes_on_from_the_former_trees_and_can_be_trained_again(
    training: SmallTraining,
) -> None:
    former = training.output("gradient_boosting")
    said = {"n_estimators": 20, "max_depth": 4, "tuned": False}
    stages = [feature_tables, *MEMBER_ASSETS, stacked_model, registered_model, training_export]
    done = materialize(
        ASSETS,
        selection=stages,
        resources=training.resources,
        instance=training.instance,
        run_config={
            "ops": {
                "feature_tables": {
                    "config": {"folds": FOLDS, "members": MEMBERS, "last_batches": 1, "seed": 7}
                },
                "gradient_boosting": {"config": said},
                "random_forest": {"config": {"trees": 3, "max_depth": 4}},
            }
        },
    )
    assert done.success

    record, export = training.output("gradient_boosting"), training.output("training_export")
    assert record["warm_start"] == former["boosters"]
    assert former["trees"] < record["trees"] <= former["trees"] + 10
    assert record["rows_anew"] == former["train_rows"]
    logged = training.client.get_run(record["mlflow_run_id"]).data.metrics
    assert logged["trees_of_former_training"] == former["trees"]
    assert export["warm_starts"] == {"gradient_boosting": former["boosters"]}
    again = reproduction.execute_in_process(
        run_config={"ops": {"reproduce": {"config": {"model_version": export["version"]}}}},
        resources={name: training.resources[name] for name in ("lake", "spark")},
    )
    assert again.success
