"""Cores spared for who answers: what is not urgent in serving's JVM keeps to the others.

To compile and to plan for a successor is a core's work for seconds. Nice values do not help: Linux weighs the
whole session against that of whoever asks (docs/decisions/038, 039).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from streaming_app.checkpoints import jvm_pid

_COMPILERS = ("C1 Compiler", "C2 Compiler")
_LONGEST_NAME = 15  # characters of a thread's name that Linux keeps


@contextmanager
def spared_cores(spark: SparkSession) -> Iterator[None]:
    """Keep this thread, and the one that works for it in the JVM, to half of the cores meanwhile.

    So are threads that these two begin, and the JVM's compilers, from then on. Where the system has no
    affinity, or the machine one core, nothing changes.
    """
    own: list[int] = []
    cores: set[int] = set()
    with suppress(AttributeError, Py4JError, OSError):  # no affinity; the JVM is gone, of which others tell
        jvm = jvm_pid(spark)
        cores = os.sched_getaffinity(jvm)  # of its first thread, which is not kept to any
        name = str(cast(Any, spark.sparkContext._jvm).java.lang.Thread.currentThread().getName())
        threads = _threads(jvm)
        own = [0, *(thread for thread, named in threads.items() if named == name[:_LONGEST_NAME])]
        compilers = (thread for thread, named in threads.items() if named.startswith(_COMPILERS))
        _keep([*own, *compilers], sorted(cores)[len(cores) // 2 :])
    try:
        yield
    finally:
        _keep(own, cores)


def _threads(process: int) -> dict[int, str]:
    found = {}
    for thread in Path(f"/proc/{process}/task").iterdir():
        with suppress(OSError):  # it has ended
            found[int(thread.name)] = (thread / "comm").read_text().rstrip("\n")
    return found


def _keep(threads: Iterable[int], cores: Iterable[int]) -> None:
    for thread in threads:
        with suppress(OSError):
            os.sched_setaffinity(thread, cores)
