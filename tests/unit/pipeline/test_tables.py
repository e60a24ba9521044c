from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.ml.feature import SQLTransformer
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.errors import LakeUnavailableError, MissingTableError, PipelineError
from usedcars_assets.pipeline.tables import (
    delete_path,
    load_pipeline,
    path_exists,
    read_table,
    save_model,
    write_table,
)


def test_a_table_is_read_as_written_and_never_changed_unasked(spark: SparkSession, tmp_path: Path) -> None:
    path = (tmp_path / "folder" / "table").as_uri()
    write_table(spark.range(3), path)
    with pytest.raises(PipelineError, match="already written"):
        write_table(spark.range(4), path)
    assert read_table(spark, path).count() == 3
    write_table(spark.range(4), path, overwrite=True)
    assert read_table(spark, path).count() == 4
    assert [child.name for child in (tmp_path / "folder").iterdir()] == ["table"]
    delete_path(spark, path)
    assert not path_exists(spark, path)


def test_a_write_that_fails_half_way_leaves_nothing_to_be_read(spark: SparkSession, tmp_path: Path) -> None:
    path = (tmp_path / "table").as_uri()
    failing = spark.range(1000, numPartitions=4).select(
        sf.when(sf.col("id") == 999, sf.raise_error(sf.lit("the disk burns"))).otherwise(sf.col("id"))
    )
    with pytest.raises(PySparkException, match="the disk burns"):
        write_table(failing, path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(MissingTableError, match="There is no table at"):
        read_table(spark, path)


def test_of_two_writers_of_one_table_the_second_is_told(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = (tmp_path / "table").as_uri()
    write_table(spark.range(3), path)
    # Both looked before either had written.
    monkeypatch.setattr("usedcars_assets.pipeline.tables.path_exists", lambda *_: False)
    with pytest.raises(PipelineError, match="Another process wrote"):
        write_table(spark.range(4), path)
    assert spark.read.parquet(path).count() == 3
    assert [child.name for child in tmp_path.iterdir()] == ["table"]


def test_a_model_that_is_not_there_is_said_to_be_missing(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(MissingTableError, match="There is no model at"):
        load_pipeline((tmp_path / "model").as_uri())
    save_model(SQLTransformer(statement="SELECT * FROM __THIS__"), (tmp_path / "model").as_uri())
    assert path_exists(spark, (tmp_path / "model" / "metadata").as_uri())


def test_a_lake_that_does_not_answer_is_named(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = spark.sparkContext._jsc.hadoopConfiguration()
    for key in ("ipc.client.connect.max.retries", "ipc.client.connect.max.retries.on.timeouts"):
        configuration.set(key, "0")
    try:
        with pytest.raises(LakeUnavailableError, match="see that HDFS is up"):
            read_table(spark, "hdfs://127.0.0.1:1/table")
        with pytest.raises(LakeUnavailableError, match="see that HDFS is up"):
            write_table(spark.range(1), "hdfs://127.0.0.1:1/table")
    finally:
        for key in ("ipc.client.connect.max.retries", "ipc.client.connect.max.retries.on.timeouts"):
            configuration.unset(key)
