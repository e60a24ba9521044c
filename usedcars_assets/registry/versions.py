"""Versions of the registered model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from usedcars_assets.resources.mlflow import MlflowTracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from pyspark.ml import PipelineModel


def version_with_alias(client: "MlflowClient", name: str, alias: str) -> str | None:
    """The version that has the alias; None if none has, or no model has the name."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def load_version(tracking: MlflowTracking, name: str, version: str) -> "PipelineModel":
    """The artefact of a version, from the tracking server, in the active Spark session.

    MLflow's own `load_model` makes a Python object of each tree, which takes seconds.
    """
    from tempfile import TemporaryDirectory

    import mlflow
    from mlflow.models import Model
    from pyspark.sql import SparkSession

    from usedcars_assets.pipeline.saved_models import load_from_local

    mlflow.set_tracking_uri(tracking.tracking_uri)
    with TemporaryDirectory() as temporary:
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=temporary))
        flavor = Model.load(str(folder)).flavors["spark"]
        return load_from_local(SparkSession.active(), folder / flavor["model_data"])


def input_example(tracking: MlflowTracking, name: str, version: str) -> str | None:
    """The first listing (JSON) of a version's stored input example; None if it has none."""
    from tempfile import TemporaryDirectory

    import mlflow
    from mlflow.models import Model

    mlflow.set_tracking_uri(tracking.tracking_uri)
    uri = f"models:/{name}/{version}"
    description = Model.load(uri)
    with TemporaryDirectory() as folder:
        example: Any = description.load_input_example(
            mlflow.artifacts.download_artifacts(uri, dst_path=folder)
        )
    listings = example.get("listing") if hasattr(example, "get") else None
    return None if listings is None or len(listings) == 0 else str(listings[0])
