"""The throw-away checkpoint of a serving process, and what an earlier process may have left running.

Where to resume is read from the answers, so a checkpoint is worth nothing after its process. Its name tells
the process and its JVM: when the process was killed, its JVM ends by itself a moment later, and until then it
may still answer.
"""

import os
import shutil
from pathlib import Path
from typing import Any, cast

from pyspark.sql import SparkSession

from streaming_app.waiting import NotYetError


def new_checkpoint(folder: Path, spark: SparkSession) -> Path:
    """Name a fresh checkpoint for this process; Spark makes the folder."""
    checkpoint = folder / f"{os.getpid()}-{jvm_pid(spark)}"
    shutil.rmtree(checkpoint, ignore_errors=True)
    checkpoint.mkdir(parents=True)
    return checkpoint


def jvm_pid(spark: SparkSession) -> int:
    """The process of a Spark session's JVM."""
    return int(cast(Any, spark.sparkContext._jvm).java.lang.ProcessHandle.current().pid())


def clear_left_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of ended processes. Raises NotYetError while the JVM of one still runs."""
    for left in folder.glob("*-*"):
        pid, _, jvm = left.name.partition("-")
        if not pid.isdigit() or not jvm.isdigit() or _runs(int(pid)):
            continue
        if _runs(int(jvm)):
            raise NotYetError(f"the JVM {jvm} of the killed process {pid} still runs")
        shutil.rmtree(left, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
