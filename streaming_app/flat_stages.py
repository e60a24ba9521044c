"""A model in a form that scores fast: what its stages make, without their rows and vectors.

Half of what a row cost in the model went into handing vectors from stage to stage, and into looks at trees
(docs/decisions/033, 035).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.types import ArrayType, DoubleType

from streaming_app.java_classes import called, java_classes
from streaming_app.jvm_stages import JvmStage

_OF_COLUMNS = {"SQLTransformer", "ImputerModel"}  # which Spark generates code for


@dataclass(frozen=True, eq=False)
class FlatStages:
    """Stages that take numbers and words and make predictions; `in_jvm` is their Java object.

    The vectors between them are no columns.
    """

    in_jvm: Any

    def transform(self, dataset: DataFrame) -> DataFrame:
        """Add the columns with the predictions."""
        spark = dataset.sparkSession
        numbers = [
            sf.coalesce(sf.col(name).cast("double"), sf.lit(float("nan"))) for name in self.in_jvm.numbers()
        ]
        words = [sf.col(name) for name in self.in_jvm.words()]
        predicted = called(
            spark,
            self.in_jvm.call(spark.sparkContext._jsc),
            "predict",
            ArrayType(DoubleType(), containsNull=False),
            [
                sf.array(*numbers).cast("array<double>"),
                sf.array(*words).cast("array<array<string>>"),
            ],
        )
        predictions = [
            sf.col("flat_predictions")[place].alias(name)
            for place, name in enumerate(self.in_jvm.predictions())
        ]
        return (
            dataset.withColumn("flat_predictions", predicted)
            .select("*", *predictions)
            .drop("flat_predictions")
        )


@dataclass(frozen=True, eq=False)
class FlatModel:
    """A pipeline whose stages of vectors are flat."""

    stages: Sequence[JvmStage | FlatStages]

    def transform(self, dataset: DataFrame) -> DataFrame:
        """Add the columns that the stages make."""
        for stage in self.stages:
            dataset = stage.transform(dataset)
        return dataset


def flat_model(spark: SparkSession, pipeline: JvmStage) -> FlatModel | None:
    """The same model with flat stages; None where it has a stage that there is no flat one for."""
    stages: list[JvmStage | FlatStages] = []
    for stage in _single(pipeline.in_jvm):
        if stage.getClass().getSimpleName() in _OF_COLUMNS:
            stages.append(JvmStage(stage))
            continue
        # A stage that takes the vector of another is joined to it: what the other takes is there by then.
        makers = [s for s in stages if isinstance(s, FlatStages) and any(map(s.in_jvm.makes, _inputs(stage)))]
        if not makers and not (stages and isinstance(stages[-1], FlatStages)):
            stages.append(FlatStages(java_classes(spark).FlatStages()))
        joined = (makers or stages)[-1]
        if len(makers) > 1 or not joined.in_jvm.add(stage, joined is stages[-1]):
            return None
    return FlatModel(stages)


def _single(stage: Any) -> Iterator[Any]:
    """The stages of a pipeline, and of those in it, one by one."""
    if stage.getClass().getSimpleName() != "PipelineModel":
        yield stage
        return
    for part in stage.stages():
        yield from _single(part)


def _inputs(stage: Any) -> list[str]:
    for name in ("inputCols", "inputCol", "featuresCol"):
        if stage.hasParam(name) and stage.isDefined(stage.getParam(name)):
            value = stage.getOrDefault(stage.getParam(name))
            return [value] if isinstance(value, str) else list(value)
    return []
