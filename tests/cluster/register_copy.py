"""Registers a copy of the version in service, as somebody would by hand: whole, or broken. Prints its number.

Run in the client's pod: python - whole|broken < register_copy.py
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import mlflow

mlflow.set_tracking_uri(os.environ["USEDCARS_MLFLOW_TRACKING_URI"])
client = mlflow.MlflowClient()
name = os.environ["USEDCARS_REGISTERED_MODEL"]
served = client.get_model_version_by_alias(name, "serving")
with tempfile.TemporaryDirectory(dir="/data") as folder:
    model = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{served.version}", dst_path=folder))
    if sys.argv[1] == "broken":
        first, *_ = (model / "sparkml" / "stages").iterdir()
        shutil.rmtree(first)
    run = client.create_run(client.get_run(served.run_id).info.experiment_id)
    client.log_artifacts(run.info.run_id, str(model), "model")
    client.set_terminated(run.info.run_id)
copy = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
sys.stdout.write(json.dumps(copy.version))
