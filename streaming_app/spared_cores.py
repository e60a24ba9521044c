"""Cores spared for who answers: what is not urgent in serving's JVM keeps to the others.

To compile and to plan for a successor is a core's work for seconds. Nice values do not help: Linux weighs the
whole session against that of whoever asks (docs/decisions/038, 039).
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from streaming_app.checkpoints import jvm_pid

_COMPILERS = ("C1 Compiler", "C2 Compiler")
_LONGEST_NAME = 15  # characters of a thread's name that Linux keeps


def spare_cores(spark: SparkSession) -> None:
    """Keep this thread, the one that works for it in the JVM, and the JVM's compilers to half of the cores.

    Where the system has no affinity, or the machine one core, nothing changes.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    with suppress(Py4JError, OSError):  # of a JVM that is gone, of which others tell
        jvm = jvm_pid(spark)
        cores = sorted(os.sched_getaffinity(jvm))  # of its first thread, which is not kept to any
        half = cores[len(cores) // 2 :]
        os.sched_setaffinity(0, half)
        own = str(cast(Any, spark.sparkContext._jvm).java.lang.Thread.currentThread().getName())
        for thread in Path(f"/proc/{jvm}/task").iterdir():
            with suppress(OSError):  # it has ended
                name = (thread / "comm").read_text().rstrip("\n")
                if name.startswith(_COMPILERS) or name == own[:_LONGEST_NAME]:
                    os.sched_setaffinity(int(thread.name), half)
