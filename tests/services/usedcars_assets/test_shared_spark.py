"""The Spark session that the assets of a run share."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.services

# In a process of its own: its JVM is killed.
RUN = """
from dagster import job, op
from pyspark import SparkContext
from usedcars_assets.failures import UnavailableError
from usedcars_assets.resources.spark import SharedSpark

spark = SharedSpark(master="local[1]", driver_memory="512m")
assert spark.spark_session.range(3).count() == 3
assert spark.spark_session is spark.spark_session
jvm = SparkContext._gateway.proc
jvm.kill()
jvm.wait()
print(spark.spark_session.range(4).count())

@op
def killed(context):
    try:
        with spark.step(context) as session:
            SparkContext._gateway.proc.kill()
            SparkContext._gateway.proc.wait()
            session.range(5).count()
    except UnavailableError as error:
        print(error)

@job
def run():
    killed()

run.execute_in_process()
spark.teardown_after_execution(None)
"""


def test_a_step_after_the_jvm_was_killed_gets_a_new_session_and_the_run_ends_without_one() -> None:
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counted, said = done.stdout.splitlines()
    assert counted == "4"
    assert said.startswith("Spark's JVM ended while ")
    assert "USEDCARS_SPARK_DRIVER_MEMORY" in said
