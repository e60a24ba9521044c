"""Boosted trees in a form that is walked fast: the layout of the model in memory, not another model.

Two fifths of what a row cost in the model were its trees (docs/decisions/033).
"""

from typing import Any

from pyspark.sql import SparkSession

from streaming_app.java_classes import java_classes
from streaming_app.jvm_stages import JvmStage


def lay_trees_flat(spark: SparkSession, pipeline: JvmStage) -> None:
    """Replace the boosted ensembles of a pipeline, and of those in it, by equal ones with flat trees.

    The pipeline can't be saved any more.
    """
    _replace(pipeline.in_jvm, java_classes(spark).FlatTrees)


def _replace(pipeline: Any, flat_trees: Any) -> None:
    stages = pipeline.stages()
    for place, stage in enumerate(stages):
        kind = stage.getClass().getSimpleName()
        if kind == "PipelineModel":
            _replace(stage, flat_trees)
        elif kind == "GBTRegressionModel":
            stages[place] = flat_trees.of(stage)
