"""What serving does for a successor leaves cores to who answers."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession

from streaming_app.checkpoints import jvm_pid
from streaming_app.spared_cores import spared_cores

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")


def affinities(jvm: int) -> dict[str, set[int]]:
    """By the names of the JVM's threads."""
    tasks = Path(f"/proc/{jvm}/task").iterdir()
    return {(task / "comm").read_text().strip(): os.sched_getaffinity(int(task.name)) for task in tasks}


@pytest.fixture
def jvm(spark: SparkSession) -> Iterator[int]:
    jvm = jvm_pid(spark)
    before = {task.name: os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{jvm}/task").iterdir()}
    yield jvm
    for task, cores in before.items():
        if Path(f"/proc/{jvm}/task/{task}").exists():
            os.sched_setaffinity(int(task), cores)


def test_a_thread_and_its_part_in_the_jvm_keep_to_half_of_the_cores_meanwhile_and_the_compilers_from_then_on(
    spark: SparkSession, jvm: int
) -> None:
    cores = os.sched_getaffinity(0)
    half = set(sorted(cores)[len(cores) // 2 :])
    found: dict[str, Any] = {}

    def prepare() -> None:
        with spared_cores(spark), spared_cores(spark):  # and no half of the half
            found["own"] = os.sched_getaffinity(0)
            found["name"] = cast(Any, spark.sparkContext._jvm).java.lang.Thread.currentThread().getName()
            found["threads"] = affinities(jvm)
        found["own after"] = os.sched_getaffinity(0)
        found["threads after"] = affinities(jvm)

    preparing = threading.Thread(target=prepare)
    preparing.start()
    preparing.join()

    assert found["own"] == half
    of_the_jvm = found["threads"]
    kept = {name for name, on in of_the_jvm.items() if on == half}
    compilers = {name for name in of_the_jvm if name.startswith(("C1 Comp", "C2 Comp"))}
    assert compilers
    if half != cores:
        assert kept == compilers | {found["name"]}
        assert {name for name, on in found["threads after"].items() if on == half} == compilers
    assert found["own after"] == cores
    assert os.sched_getaffinity(0) == cores, "who waits for requests is where it was"
