"""What is logged to MLflow, with explicit run ids so that members can log at the same time."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric, Param, RunTag

from usedcars_assets.resources.mlflow import DAGSTER_RUN_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from usedcars_assets.pipeline.evaluation import Metrics

BATCHES = "batches.json"
"""The artefact of a training's run that names its batches with their fingerprints."""
_MOST_PARAMETERS = 100  # of one request, as the server allows
_LONGEST_VALUE = 6000
_MOST_STEPS = 50  # of a curve


@contextmanager
def nested_run(
    client: "MlflowClient", experiment_id: str, parent: str, name: str, dagster_run_id: str
) -> Iterator[str]:
    """A run below `parent`; it ends with the block, FAILED if that raises."""
    tags = {"mlflow.parentRunId": parent, DAGSTER_RUN_TAG: dagster_run_id}
    run_id: str = client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
    try:
        yield run_id
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)


def log(
    client: "MlflowClient",
    run_id: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Logs all of these in as few requests as the server takes."""
    now = int(time.time() * 1000)
    params = [Param(name, str(value)[:_LONGEST_VALUE]) for name, value in (parameters or {}).items()]
    client.log_batch(
        run_id,
        metrics=[Metric(name, float(value), now, 0) for name, value in (metrics or {}).items()],
        params=params[:_MOST_PARAMETERS],
        tags=[RunTag(name, value[:_LONGEST_VALUE]) for name, value in (tags or {}).items()],
    )
    for start in range(_MOST_PARAMETERS, len(params), _MOST_PARAMETERS):
        client.log_batch(run_id, params=params[start : start + _MOST_PARAMETERS])


def log_curve(client: "MlflowClient", run_id: str, curve: Sequence[tuple[float, float]]) -> None:
    """Logs the errors after each tree, of some of them, as metrics that MLflow plots by step."""
    now = int(time.time() * 1000)
    steps = sorted({*range(1, len(curve) + 1, 1 + len(curve) // _MOST_STEPS), len(curve)})
    client.log_batch(
        run_id,
        metrics=[
            Metric(f"{rows}_log_price_rmse", curve[step - 1][place], now, step)
            for place, rows in enumerate(("seen", "unseen"))
            for step in steps
        ],
    )


def log_file(client: "MlflowClient", run_id: str, name: str, content: bytes) -> None:
    """Logs an artefact of this name."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        client.log_artifact(run_id, str(file))


def read_file(client: "MlflowClient", run_id: str, name: str) -> bytes:
    """The content of an artefact."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, name, folder)).read_bytes()


def named(prefix: str, metrics: "Metrics | Mapping[str, float]") -> dict[str, float]:
    """Metrics under names as test_rmse."""
    values = metrics if isinstance(metrics, Mapping) else asdict(metrics)
    return {f"{prefix}_{name}": float(value) for name, value in values.items()}


def over_folds(mean: Mapping[str, float], deviation: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a cross-validation under names as cv_rmse_mean and cv_rmse_deviation."""
    return {
        f"cv_{name}_{kind}": value
        for kind, values in (("mean", mean), ("deviation", deviation))
        for name, value in values.items()
    }


def library_versions() -> dict[str, str]:
    """Versions of what a model depends on."""
    import platform
    from importlib.metadata import version

    libraries = ("pyspark", "xgboost-cpu", "numpy", "mlflow", "dagster")
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}
