"""Spark models made of tables: written in the form in which Spark saves them, then loaded.

Building a model of many parts through the JVM gateway costs calls for each part (60 s for 166,000 tree
nodes); its saved form is a line of metadata and Parquet rows, which Spark reads in a second. The form is that
of Spark 4.2: see `DefaultParamsWriter` and the writers of the model classes in its source.
"""

import json
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.ml import PipelineModel
from pyspark.ml.util import JavaMLReadable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.jvm_stage import JvmStage
from usedcars_assets.pipeline.tables import copy_from_local, delete_path, load_pipeline


def load_from_tables(
    spark: SparkSession,
    model: type[JavaMLReadable[Any]],
    parameters: Mapping[str, Any],
    tables: Mapping[str, DataFrame],
    extra_metadata: Mapping[str, Any] | None = None,
) -> JvmStage:
    """The model that Spark reads from these tables, by the names of their folders.

    The files live for a moment in the folder that the setting `spark.usedcars.scratch` names, which driver
    and executors must share; without it, in this machine's temporary folder.
    """
    path = f"{_scratch(spark)}/{model.__name__}-{uuid.uuid4().hex}"
    metadata = {
        "class": f"{model.__module__.replace('pyspark', 'org.apache.spark')}.{model.__name__}",
        "timestamp": int(time.time() * 1000),
        "sparkVersion": spark.version,
        "uid": f"{model.__name__}_{uuid.uuid4().hex[:12]}",
        "paramMap": dict(parameters),
        "defaultParamMap": {},
        **(extra_metadata or {}),
    }
    try:
        spark.range(1, numPartitions=1).select(sf.lit(json.dumps(metadata))).write.text(f"{path}/metadata")
        for name, table in tables.items():
            table.write.parquet(f"{path}/{name}")
        return JvmStage(model.read()._jread.load(path))
    finally:
        delete_path(spark, path)


def load_from_local(spark: SparkSession, folder: Path) -> PipelineModel:
    """The pipeline in a folder of this machine, by way of the scratch folder: executors read it, too."""
    path = f"{_scratch(spark)}/pipeline-{uuid.uuid4().hex}"
    try:
        copy_from_local(spark, folder, path)
        return load_pipeline(path)
    finally:
        delete_path(spark, path)


def _scratch(spark: SparkSession) -> str:
    return spark.conf.get("spark.usedcars.scratch", None) or f"file://{tempfile.gettempdir()}"
