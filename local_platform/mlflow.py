"""The MLflow tracking server: runs and registry in SQLite, artefacts served from a folder."""

import sys
from functools import partial

from local_platform.service import Service, http_ready
from local_platform.settings import HOST, PlatformSettings


def mlflow_service(settings: PlatformSettings) -> Service:
    """The tracking server; clients never touch its folder, so they may run anywhere."""
    folder = settings.home_folder / "mlflow"
    command = (
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", HOST, "--port", str(settings.port("mlflow")), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artefacts"), "--serve-artifacts"),
        *("--allowed-hosts", f"{HOST}:*,localhost:*"),
    )
    return Service(
        name="mlflow",
        command=command,
        ports=(settings.port("mlflow"),),
        # Its job runner is for features that the platform does not use, and costs two processes.
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        prepare=partial(folder.mkdir, parents=True, exist_ok=True),
        ready=partial(http_ready, f"{settings.url('mlflow')}/health"),
    )
