"""Stages of Spark ML as the JVM has them.

pyspark.ml would make Python objects of them, of each tree one, that nothing here needs, and its import takes
two seconds of each start, as it brings pandas and SciPy.
"""

from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True, eq=False)
class JvmStage:
    """A transformer, or a whole pipeline of them; `in_jvm` is its Java object."""

    in_jvm: Any

    def transform(self, dataset: DataFrame) -> DataFrame:
        """Add the columns that the stage makes."""
        return DataFrame(self.in_jvm.transform(dataset._jdf), dataset.sparkSession)


def load_pipeline(spark: SparkSession, path: str) -> JvmStage:
    """Load a saved pipeline of JVM stages. Raises Py4JJavaError when Spark can't read it."""
    return JvmStage(_stages(spark).PipelineModel.load(path))


def sql_stage(spark: SparkSession, statement: str) -> JvmStage:
    """The stage that selects from __THIS__."""
    return JvmStage(_stages(spark).feature.SQLTransformer().setStatement(statement))


def _stages(spark: SparkSession) -> Any:
    jvm: Any = spark.sparkContext._jvm
    return jvm.org.apache.spark.ml
