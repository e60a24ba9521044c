"""Spark's classes, archived once and mapped by each of its processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_platform.class_archive import class_archive, make_class_archive, with_class_archive
from local_platform.jars import fetch_jars
from local_platform.java import find_java

pytestmark = pytest.mark.services

# As the platform's processes start it.
SPARK = """
import sys
from pathlib import Path
from pyspark.sql import SparkSession
jars = ",".join(map(str, Path(sys.argv[1]).glob("spark-kafka/*.jar")))
spark = SparkSession.builder.master("local[1]").config("spark.jars", jars).getOrCreate()
print(spark.range(3).count())
spark.readStream.format("kafka").options(subscribe="t", **{"kafka.bootstrap.servers": "localhost:1"}).load()
"""


def run_spark(jars: Path, environment: dict[str, str], *options: str) -> "subprocess.CompletedProcess[str]":
    given = {**os.environ, **environment}
    given["JDK_JAVA_OPTIONS"] = " ".join((given["JDK_JAVA_OPTIONS"], *options))
    command = [sys.executable, "-c", SPARK, str(jars)]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


def shares(log: Path, package: str) -> tuple[int, int]:
    """How many classes of a package were loaded, and how many of them from the archive."""
    loaded = [line for line in log.read_text().splitlines() if f" {package}" in line]
    return len(loaded), sum("shared objects file (top)" in line for line in loaded)


def test_a_spark_process_takes_its_classes_from_the_archive_also_with_a_folder_of_settings(
    jars: Path, tmp_path: Path
) -> None:
    fetch_jars(jars, find_java(), ["spark-kafka"])
    make_class_archive(jars, find_java())
    assert not make_class_archive(jars, find_java()), "it is made once"
    settings, log = tmp_path / "settings", tmp_path / "classes"
    settings.mkdir()
    (settings / "spark-defaults.conf").write_text("spark.ui.enabled false\n")
    environment = with_class_archive(class_archive(jars, find_java())) | {"SPARK_CONF_DIR": str(settings)}
    done = run_spark(jars, environment, f"-Xlog:class+load:file={log}")
    assert done.stdout.strip() == "3", done.stderr
    loaded, archived = shares(log, "org.apache.spark.sql")
    assert archived > loaded / 2 > 100  # the lambdas that are made anew are not
    loaded, archived = shares(log, "org.apache.kafka")
    assert archived > loaded / 2 > 0


def test_without_a_fitting_archive_spark_goes_on_without_a_word(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
    # That of these tests' own archive would come last, and win.
    monkeypatch.delenv("PYSPARK_SUBMIT_ARGS", raising=False)
    broken = tmp_path / "broken.jsa"
    broken.write_bytes(b"no archive")
    for archive in (broken, tmp_path / "absent.jsa"):
        done = run_spark(jars, with_class_archive(archive))
        assert (done.returncode, done.stdout.strip()) == (0, "3"), done.stderr
