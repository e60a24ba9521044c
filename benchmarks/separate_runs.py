"""Runs that are compared: each in a process of its own, on the same raw rows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CORES = 2


def spark_session(memory: str, cores: int = CORES) -> "SparkSession":
    """Spark as the platform sets it up, on two cores unless told otherwise."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    from usedcars_assets.pipeline.spark_session import spark_settings

    builder = SparkSession.builder.master(f"local[{cores}]").config("spark.driver.memory", memory)
    for key, value in {**spark_settings(), "spark.ui.enabled": "false"}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def generate(file: Path, rows: int, seed: int = 1) -> None:
    """A raw file of generated listings."""
    command = [str(Path(sys.executable).with_name("usedcars-simulation")), "generate"]
    subprocess.run([*command, "--rows", str(rows), "--seed", str(seed), "--output", str(file)], check=True)


def measured(script: str, run: str, **options: object) -> Any:
    """What a run prints as JSON, in a fresh process, so that none warms or crowds another."""
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, script, "--run", run, *given], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{run} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])
