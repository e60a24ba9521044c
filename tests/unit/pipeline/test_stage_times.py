import json
import time
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.stage_times import StageTime, busy_seconds, stage_times, step_times

ROWS = 20_000


def logged_events(spark: SparkSession, folder: Path, work: Any) -> list[str]:
    """What Spark's own listener for event logs writes while the work is done."""
    context = spark.sparkContext
    jvm: Any = context._jvm
    conf = context._jsc.sc().conf().clone().set("spark.eventLog.compress", "false")
    conf.set("spark.eventLog.rolling.enabled", "false")
    none = getattr(jvm.scala, "None$").__getattr__("MODULE$")
    configuration = context._jsc.hadoopConfiguration()
    listener = jvm.org.apache.spark.scheduler.EventLoggingListener(
        "app", none, jvm.java.net.URI(folder.as_uri()), conf, configuration
    )
    listener.start()
    context._jsc.sc().addSparkListener(listener)
    try:
        work()
        context._jsc.sc().listenerBus().waitUntilEmpty()
    finally:
        context._jsc.sc().removeSparkListener(listener)
        listener.stop()
    (log,) = folder.iterdir()
    return log.read_text().splitlines()


def test_the_stages_of_a_run_are_told_by_step_with_what_they_read_and_handed_on(
    spark: SparkSession, tmp_path: Path
) -> None:
    context = spark.sparkContext
    (tmp_path / "log").mkdir()
    table = (tmp_path / "table").as_uri()

    def work() -> None:
        context.setJobGroup("run-1/writing", "writing")
        spark.range(ROWS).write.parquet(table)
        context.setJobGroup("run-1/counting", "counting")
        spark.read.parquet(table).groupBy(sf.expr("id % 7")).count().collect()
        context.setJobGroup("run-2/other", "other")
        spark.range(3).collect()

    began = time.time()
    try:
        events = logged_events(spark, tmp_path / "log", work)
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]
    stages = stage_times([*events, events[-1][:20]], "run-1/")
    writing, counting = step_times(stages)
    assert (writing.step, counting.step) == ("writing", "counting")
    assert counting.stages >= 2
    assert counting.tasks >= 2
    assert writing.written_bytes > 0 == writing.shuffled_bytes
    assert counting.read_bytes > 0 == counting.written_bytes
    assert counting.shuffled_bytes > 0
    assert writing.cpu_seconds > 0
    assert began - 1 < stages[0].started <= stages[-1].ended < time.time() + 1
    assert json.loads(events[0])["Event"] == "SparkListenerLogStart"


def stage(started: float, seconds: float) -> StageTime:
    return StageTime("step", "stage", started, seconds, 1, 0.0, 0, 0, 0)


def test_stages_at_the_same_time_are_busy_once() -> None:
    apart, together, inside = stage(10, 2), stage(1, 4), stage(2, 1)
    assert busy_seconds([apart, inside, together, stage(4, 3)]) == pytest.approx(6 + 2)
    assert busy_seconds([]) == 0
