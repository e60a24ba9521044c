"""What a rollout in a test needs: a Supervisor of its own, and a version to roll out."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from usedcars_assets.references import RegisteredVersion, Training
from usedcars_assets.resources.deployment import ServingDeployment
from usedcars_assets.resources.mlflow import MlflowTracking

_SUPERVISOR = """
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
[unix_http_server]
file={folder}/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


@contextmanager
def supervised(folder: Path, programs: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    """A Supervisor in `folder` for the `programs` sections, up within the block."""
    configuration = folder / "supervisord.conf"
    configuration.write_text(_SUPERVISOR.format(folder=folder) + programs)
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)], env=environment
    )
    try:
        deadline = time.monotonic() + 30
        while not (folder / "s.sock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def deployment(folder: Path, port: int) -> ServingDeployment:
    """The serving program of the Supervisor in `folder`."""
    return ServingDeployment(
        supervisor_socket=str(folder / "s.sock"), serving_urls=[f"http://127.0.0.1:{port}"]
    )


def tracking(uri: str, name: str) -> MlflowTracking:
    """A model and an experiment of one name."""
    return MlflowTracking(
        tracking_uri=uri, experiment=name, registered_model=name, serving_alias="serving", dagster_url=""
    )


def registered_version(name: str, version: str, input_example: str) -> RegisteredVersion:
    """What the asset before the rollout hands over."""
    training = Training(
        training_id="t",
        mlflow_run_id="r",
        batches=(),
        left_out=(),
        members=(),
        folds=2,
        seed=1,
        cleaned_rows=0,
        data_version="",
    )
    return RegisteredVersion(training=training, name=name, version=version, input_example=input_example)
