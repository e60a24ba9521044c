"""The model to serve: found by alias in the MLflow registry, kept as a local copy, checked before use.

The local copy lets a restart go on while MLflow is away, and spares it MLflow's import (seconds).
"""

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import structlog
from pyspark.sql import SparkSession

from streaming_app.flat_stages import FlatModel, flat_model
from streaming_app.jvm_stages import JvmStage, load_pipeline
from streaming_app.logs import first_line
from streaming_app.settings import ApplicationSettings, ServingSettings
from streaming_app.waiting import NotYetError

if TYPE_CHECKING:
    from mlflow.models import Model

log = structlog.get_logger()

_DESCRIPTION = "served_model.json"
_SERVING = "serving.json"
_OUTPUTS = {"price": "double", "rejection": "string", "rejection_field": "string"}


class UnfitModelError(Exception):
    """The model can't be served; the text says why and what to do."""


class RegistryAwayError(NotYetError):
    """MLflow does not answer."""


@dataclass(frozen=True)
class ServedModel:
    """A version of the registered model as a local copy with a checked signature."""

    name: str
    version: str
    listings: tuple[str, ...]  # the listings of the stored input example, as JSON text
    pipeline: str  # folder of the Spark pipeline, relative to the copy
    folder: Path

    def load(self, spark: SparkSession) -> JvmStage | FlatModel:
        """Load the pipeline. Raises UnfitModelError when Spark can't read it."""
        try:
            pipeline = load_pipeline(spark, (self.folder / self.pipeline).as_uri())
            model = flat_model(spark, pipeline)
        except Exception as error:
            raise UnfitModelError(
                f"Spark can't load version {self.version} of {self.name}: {first_line(error)}; "
                "register a version that is a Spark pipeline of JVM stages, and set the alias to it"
            ) from error
        return model or pipeline


def find_version(settings: ServingSettings) -> str:
    """Ask the registry which version carries the alias; while MLflow is away, the version last in service.

    Raises NotYetError when there is none.
    """
    try:
        return version_with_alias(settings)
    except RegistryAwayError:
        if (served := last_served(settings)) is None:
            raise
        log.warning("mlflow_away", serving="the version last in service", version=served)
        return served


def version_with_alias(settings: ServingSettings) -> str:
    """Ask the registry which version carries the alias.

    Raises RegistryAwayError when MLflow does not answer, NotYetError when there is none.
    """
    try:
        response = requests.get(
            f"{settings.mlflow_tracking_uri}/api/2.0/mlflow/registered-models/alias",
            params={"name": settings.registered_model, "alias": settings.serving_alias},
            timeout=5,
        )
    except requests.RequestException as error:
        raise RegistryAwayError(f"MLflow does not answer at {settings.mlflow_tracking_uri}") from error
    if response.status_code == requests.codes.ok:
        return str(response.json()["model_version"]["version"])
    if response.status_code in (requests.codes.not_found, requests.codes.bad_request):
        raise NotYetError(
            f"MLflow has no version of {settings.registered_model} with the alias "
            f"{settings.serving_alias} yet"
        )
    raise NotYetError(f"MLflow at {settings.mlflow_tracking_uri} answers with {response.status_code}")


def fetch_model(settings: ServingSettings, version: str) -> ServedModel:
    """Get the local copy of a version, downloading it when there is none.

    The copy appears whole or not at all, and is not replaced: other processes may share the folder.
    Raises UnfitModelError when the signature is not the agreed one, NotYetError when the download fails.
    """
    folder = settings.model_folder / settings.registered_model / version
    if not (folder / _DESCRIPTION).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as attempt:
            _download(settings, version, Path(attempt) / "copy")
            try:
                os.rename(Path(attempt) / "copy", folder)
            except OSError:
                # Another process was first, whose copy may be in use already; or one was not wholly removed.
                if not (folder / _DESCRIPTION).exists():
                    shutil.rmtree(folder, ignore_errors=True)
                    os.rename(Path(attempt) / "copy", folder)
    return _local_copy(folder)


def download(settings: ApplicationSettings, version: str, target: Path, file: str = "") -> Path:
    """Fetch a version, or one file of it, into the folder `target`. Raises NotYetError when MLflow can't."""
    # Imported here: the import takes seconds, and most starts need none of it.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the waiting is done, and logged, here
    import mlflow

    mlflow.set_tracking_uri(settings.mlflow_tracking_uri)
    source = f"models:/{settings.registered_model}/{version}"
    try:
        return Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"{source}/{file}" if file else source, dst_path=str(target)
            )
        )
    except Exception as error:  # whatever is wrong with the server, its store or the way to them
        raise NotYetError(
            f"{file or 'the model'} of version {version} of {settings.registered_model} can't be downloaded "
            f"from MLflow: {first_line(error)}"
        ) from error


def remember_served(settings: ServingSettings, model: ServedModel) -> None:
    """Note the version in service, for a start while MLflow is away, and drop older copies but one."""
    root = settings.model_folder / settings.registered_model
    note = root / f"{_SERVING}.{os.getpid()}"
    note.write_text(json.dumps({"version": model.version}))
    os.replace(note, root / _SERVING)
    copies = sorted(
        (c for c in root.iterdir() if (c / _DESCRIPTION).exists()), key=lambda c: c.stat().st_mtime
    )
    with tempfile.TemporaryDirectory(dir=root, prefix=".dropped-", ignore_cleanup_errors=True) as dropped:
        for copy in [c for c in copies if c.name != model.version][:-1]:
            with contextlib.suppress(OSError):  # another process was first
                os.rename(copy, Path(dropped) / copy.name)


def last_served(settings: ServingSettings) -> str | None:
    """Find the version last in service whose copy is still there."""
    root = settings.model_folder / settings.registered_model
    try:
        version = str(json.loads((root / _SERVING).read_text())["version"])
        return version if (root / version / _DESCRIPTION).exists() else None
    except (OSError, ValueError, KeyError):
        return None


def _local_copy(folder: Path) -> ServedModel:
    description = json.loads((folder / _DESCRIPTION).read_text())
    return ServedModel(**{**description, "listings": tuple(description["listings"])}, folder=folder)


def _download(settings: ServingSettings, version: str, target: Path) -> None:
    log.info("downloading_model", model=settings.registered_model, version=version)
    download(settings, version, target)
    from mlflow.models import Model

    name = f"version {version} of {settings.registered_model}"
    try:
        model = Model.load(str(target))
    except Exception as error:
        raise UnfitModelError(
            f"{name} is no MLflow model: {first_line(error)}; set the alias to a version that is one"
        ) from error
    description = asdict(
        ServedModel(
            name=settings.registered_model,
            version=version,
            listings=_checked_listings(model, target, name),
            pipeline=model.flavors["spark"]["model_data"],
            folder=target,
        )
    )
    del description["folder"]
    (target / _DESCRIPTION).write_text(json.dumps(description))


def _checked_listings(model: "Model", folder: Path, name: str) -> tuple[str, ...]:
    """The listings of the input example of a model whose signature is the agreed one."""
    remedy = "set the alias to a version with the signature (listing: string) -> (price: double, rejection: "
    remedy += "string, rejection_field: string), the spark flavour and an input example"
    if "spark" not in model.flavors:
        raise UnfitModelError(f"{name} has no spark flavour; {remedy}")
    signature = model.signature
    inputs = {c.name: c.type.name for c in signature.inputs} if signature and signature.inputs else {}
    outputs = {c.name: c.type.name for c in signature.outputs} if signature and signature.outputs else {}
    if inputs != {"listing": "string"} or any(outputs.get(k) != t for k, t in _OUTPUTS.items()):
        raise UnfitModelError(f"{name} has the signature {inputs} -> {outputs}; {remedy}")
    example: Any = model.load_input_example(str(folder))
    if example is None or len(example) == 0:
        raise UnfitModelError(f"{name} has no input example; {remedy}")
    return tuple(str(listing) for listing in example["listing"])
