"""Tables and models on any Hadoop file system, seen whole or not at all.

HDFS renames a folder in one step, so everything is written next to its place and renamed into it.
"""

import uuid
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.ml import PipelineModel
from pyspark.ml.util import MLWritable
from pyspark.sql import DataFrame, SparkSession

from usedcars_assets.pipeline.errors import MissingTableError, PipelineError, reading, writing
from usedcars_assets.pipeline.jvm_stage import JvmStage


def write_table(table: DataFrame, path: str, *, overwrite: bool = False) -> None:
    """Writes a table as Parquet; it appears at `path` complete.

    What already stands at `path` is complete: it stays, and PipelineError says so, unless `overwrite`.
    """
    spark = table.sparkSession
    with writing("a table", path):
        attempt = _attempt_path(spark, path, overwrite)
        try:
            table.write.parquet(attempt)
            _put_in_place(spark, attempt, path, overwrite)
        finally:
            _delete_quietly(spark, attempt)


def read_table(spark: SparkSession, path: str) -> DataFrame:
    """The table at `path`; MissingTableError when there is none."""
    with reading("The table", path):
        if not path_exists(spark, path):
            raise MissingTableError(
                f"There is no table at {path}: materialize the asset that writes it, then run this one again."
            )
        return spark.read.parquet(path)


def save_model(model: MLWritable, path: str, *, overwrite: bool = False) -> None:
    """Saves a Spark ML model or pipeline; it appears at `path` complete."""
    spark = SparkSession.active()
    with writing("a model", path):
        attempt = _attempt_path(spark, path, overwrite)
        try:
            model.write().save(attempt)
            _put_in_place(spark, attempt, path, overwrite)
        finally:
            _delete_quietly(spark, attempt)


def load_pipeline(path: str) -> PipelineModel:
    """The pipeline at `path`; MissingTableError when there is none."""
    spark = SparkSession.active()
    with reading("The model", path):
        if not path_exists(spark, path):
            raise MissingTableError(
                f"There is no model at {path}: materialize the asset that saves it, then run this step again."
            )
        jvm: Any = spark.sparkContext._jvm
        stages = jvm.org.apache.spark.ml.PipelineModel.load(path).stages()
        return PipelineModel([JvmStage(stage) for stage in stages])


def copy_from_local(spark: SparkSession, folder: Path, path: str) -> None:
    """Copies a folder of this machine to `path`."""
    with writing("a copy", path):
        hadoop_path, file_system = _hadoop(spark, path)
        jvm: Any = spark.sparkContext._jvm
        file_system.copyFromLocalFile(jvm.org.apache.hadoop.fs.Path(folder.as_uri()), hadoop_path)


def path_exists(spark: SparkSession, path: str) -> bool:
    """Whether a file or folder stands at `path`."""
    with reading("the folder", path):
        hadoop_path, file_system = _hadoop(spark, path)
        return bool(file_system.exists(hadoop_path))


def delete_path(spark: SparkSession, path: str) -> None:
    """Deletes the file or folder at `path`, if there is one."""
    with writing("a deletion", path):
        hadoop_path, file_system = _hadoop(spark, path)
        file_system.delete(hadoop_path, True)


def _attempt_path(spark: SparkSession, path: str, overwrite: bool) -> str:
    if not overwrite and path_exists(spark, path):
        raise PipelineError(
            f"{path} is already written and tables are never changed in place: "
            "read it, or write with overwrite=True."
        )
    folder, _, name = path.rstrip("/").rpartition("/")
    return f"{folder}/.{name}.attempt-{uuid.uuid4().hex[:12]}"


def _put_in_place(spark: SparkSession, attempt: str, path: str, overwrite: bool) -> None:
    if overwrite:
        delete_path(spark, path)
    jvm: Any = spark.sparkContext._jvm
    configuration = spark.sparkContext._jsc.hadoopConfiguration()
    source, target = jvm.org.apache.hadoop.fs.Path(attempt), jvm.org.apache.hadoop.fs.Path(path)
    # FileSystem.rename moves into an existing folder; FileContext.rename refuses it.
    context = jvm.org.apache.hadoop.fs.FileContext.getFileContext(target.toUri(), configuration)
    gateway: Any = spark.sparkContext._gateway
    refuse = gateway.new_array(jvm.org.apache.hadoop.fs.Options.Rename, 0)
    try:
        context.rename(source, target, refuse)
    except Py4JJavaError as error:
        if "FileAlreadyExistsException" in str(error) or "already exists" in str(error):
            raise PipelineError(
                f"Another process wrote {path} at the same time: its table is complete, read that one."
            ) from error
        raise


def _delete_quietly(spark: SparkSession, attempt: str) -> None:
    """Removes what a failed attempt left; its own failure must not hide the first one."""
    try:
        hadoop_path, file_system = _hadoop(spark, attempt)
        file_system.delete(hadoop_path, True)
    except Py4JJavaError:
        pass


def _hadoop(spark: SparkSession, path: str) -> tuple[Any, Any]:
    jvm: Any = spark.sparkContext._jvm
    hadoop_path = jvm.org.apache.hadoop.fs.Path(path)
    return hadoop_path, hadoop_path.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration())
