"""The artefact as a version of the registered model, with all that is known of its training."""

import json
import shutil
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dagster import AssetExecutionContext, MetadataValue, Output, asset

from usedcars_assets.failures import OUTAGE_RETRIES, clear_failures
from usedcars_assets.features.tables import TRAINING_DISTRIBUTION, training_distribution_path
from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.ingestion.trained import TrainedBatches, write_trained
from usedcars_assets.references import RegisteredVersion, StackedModel
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.ledger import Entry, write_entry

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

ARTIFACT_PATH = "model"
CANDIDATE = "candidate"


@asset(
    name="registered_model",
    description="The artefact as a new version of the registered MLflow model, with the alias candidate.",
    group_name="registry",
    owners=OWNERS,
    tags={"layer": "models"},
    kinds={"mlflow", "spark"},
    code_version="2",
    retry_policy=OUTAGE_RETRIES,
)
def registered_model(
    context: AssetExecutionContext,
    stacked_model: StackedModel,
    spark: SharedSpark,
    lake: Lake,
    mlflow: MlflowTracking,
    topics: Topics,
) -> Output[RegisteredVersion]:
    """Logs the artefact to the training's MLflow run and registers it."""
    training = stacked_model.training
    name = mlflow.registered_model
    with clear_failures("registering the model"):
        started = time.monotonic()
        with spark.step(context):
            path, size = _log_model(lake, mlflow, stacked_model)
        logged = time.monotonic()
        version = _register(mlflow, name, stacked_model, path, context.run.run_id)
        # From here on the batches count as learnt, whatever becomes of the rollout.
        fingerprints = {v.batch: v.fingerprint for v in (*training.batches, *training.left_out)}
        trained = TrainedBatches(
            training_id=training.training_id,
            model_version=version,
            trained_at=time.time(),
            fingerprints=fingerprints,
        )
        write_trained(lake, trained)
        entry = Entry(
            kind="registration", outcome="done", model=name, version=version, run_id=context.run.run_id
        )
        if problem := write_entry(topics, entry):
            context.log.warning(problem)
        experiment_id = mlflow.experiment_id()
    reference = RegisteredVersion(
        training=training, name=name, version=version, input_example=stacked_model.input_example
    )
    metadata: dict[str, Any] = {
        "version": version,
        **{f"test_{metric}": value for metric, value in stacked_model.test.items()},
        "batches": len(training.batches),
        "data_version": training.data_version,
        "model_bytes": size,
        "logging_seconds": logged - started,
        "model_version": MetadataValue.url(mlflow.version_url(name, version)),
        "mlflow_run": MetadataValue.url(mlflow.run_url(training.mlflow_run_id, experiment_id)),
    }
    return Output(reference, metadata=metadata)


def _log_model(lake: Lake, tracking: MlflowTracking, stacked: StackedModel) -> tuple[str, int]:
    """Logs the stored artefact, byte for byte as it was checked; returns its artifact path and size."""
    import mlflow
    import pandas as pd
    from pyspark.ml import PipelineModel

    from usedcars_assets.registry.tracking import library_versions

    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / ARTIFACT_PATH
        # MLflow describes a pipeline; loading the real one and saving it again would take longer than all
        # else here, and log_model would score the example in yet another way that serving does not use.
        mlflow.spark.save_model(
            PipelineModel([]),
            str(folder),
            signature=model_signature(),
            input_example=pd.DataFrame({"listing": [stacked.input_example]}),
            pip_requirements=[f"pyspark=={library_versions()['pyspark']}"],
            metadata={"training_id": stacked.training.training_id},
        )
        pipeline = folder / mlflow.models.Model.load(str(folder)).flavors["spark"]["model_data"]
        shutil.rmtree(pipeline)
        lake.download(f"{stacked.path}/artefact", pipeline)
        distribution = lake.read_json(training_distribution_path(stacked.training))
        (folder / TRAINING_DISTRIBUTION).write_text(json.dumps(distribution), encoding="utf-8")
        client, run_id = tracking.client(), stacked.training.mlflow_run_id
        # An upload that broke off, or an earlier registration of this training, must not be mixed with.
        taken = client.list_artifacts(run_id, ARTIFACT_PATH)
        path = f"{ARTIFACT_PATH}-{uuid.uuid4().hex[:8]}" if taken else ARTIFACT_PATH
        client.log_artifacts(run_id, str(folder), path)
        return path, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def model_signature() -> "ModelSignature":
    """What goes into the artefact and what comes out that callers may rely on."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "listing")]),
        outputs=Schema(
            [
                ColSpec(DataType.double, "price", required=False),
                ColSpec(DataType.double, "price_low", required=False),
                ColSpec(DataType.double, "price_high", required=False),
                ColSpec(DataType.string, "rejection", required=False),
                ColSpec(DataType.string, "rejection_field", required=False),
            ]
        ),
    )


def _register(
    tracking: MlflowTracking, name: str, stacked: StackedModel, path: str, dagster_run_id: str
) -> str:
    from mlflow.exceptions import MlflowException

    training = stacked.training
    client = tracking.client()
    try:
        client.create_registered_model(name, description="Price in USD of a used-car listing.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags: dict[str, Any] = {
        "training_id": training.training_id,
        "data_version": training.data_version,
        "batches": str(len(training.batches)),
        "dagster_run_url": tracking.dagster_run_url(dagster_run_id),
        **{f"test_{metric}": f"{value:.6g}" for metric, value in stacked.test.items()},
    }
    artifacts = client.get_run(training.mlflow_run_id).info.artifact_uri
    version = client.create_model_version(
        name,
        source=f"{artifacts}/{path}",
        run_id=training.mlflow_run_id,
        tags=tags,
        description=(
            f"Stack of {', '.join(training.members)} over {len(training.batches)} batches: "
            f"RMSE {stacked.test['rmse']:,.0f} USD, R² {stacked.test['r2']:.3f} on "
            f"{int(stacked.test['rows']):,} test rows."
        ),
    ).version
    client.set_registered_model_alias(name, CANDIDATE, version)
    return str(version)
