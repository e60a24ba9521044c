"""Spark's classes, archived once and mapped by each of its processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_platform.class_archive import class_archive, make_class_archive, with_class_archive
from local_platform.java import find_java

pytestmark = pytest.mark.services

SPARK = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
print(spark.range(3).count())
"""


def run_spark(environment: dict[str, str], *options: str) -> "subprocess.CompletedProcess[str]":
    given = {**os.environ, **environment}
    given["JDK_JAVA_OPTIONS"] = " ".join((given["JDK_JAVA_OPTIONS"], *options))
    command = [sys.executable, "-c", SPARK]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


def test_a_spark_process_takes_its_classes_from_the_archive(jars: Path, tmp_path: Path) -> None:
    make_class_archive(jars, find_java())
    assert not make_class_archive(jars, find_java()), "it is made once"
    log = tmp_path / "classes"
    done = run_spark(with_class_archive(class_archive(jars, find_java())), f"-Xlog:class+load:file={log}")
    assert done.stdout.strip() == "3", done.stderr
    loaded = [line for line in log.read_text().splitlines() if "org.apache.spark.sql" in line]
    archived = [line for line in loaded if "shared objects file (top)" in line]
    assert len(archived) > len(loaded) / 2 > 100  # the lambdas that are made anew are not


def test_without_a_fitting_archive_spark_goes_on_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
    broken = tmp_path / "broken.jsa"
    broken.write_bytes(b"no archive")
    for archive in (broken, tmp_path / "absent.jsa"):
        done = run_spark(with_class_archive(archive))
        assert (done.returncode, done.stdout.strip()) == (0, "3"), done.stderr
