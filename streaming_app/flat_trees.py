"""Boosted trees in a form that is walked fast: the layout of the model in memory, not another model.

Half of what a row cost in the model was its trees (docs/decisions/033). The class is Java, as Spark's own
stages are, and compiled by Janino, with which Spark compiles the code it generates: nothing is to be built.
"""

from functools import cache
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from streaming_app.jvm_stages import JvmStage

_SOURCE = Path(__file__).with_name("FlatTrees.java")


def lay_trees_flat(spark: SparkSession, pipeline: JvmStage) -> None:
    """Replace the boosted ensembles of a pipeline, and of those in it, by equal ones with flat trees.

    Works where the JVM of the session also runs the tasks, as serving's does; elsewhere executors would not
    know the class. The pipeline can't be saved any more.
    """
    _replace(pipeline.in_jvm, spark.sparkContext)


def _replace(pipeline: Any, context: Any) -> None:
    stages = pipeline.stages()
    for place, stage in enumerate(stages):
        kind = stage.getClass().getSimpleName()
        if kind == "PipelineModel":
            _replace(stage, context)
        elif kind == "GBTRegressionModel":
            model = context._gateway.new_array(context._jvm.java.lang.Object, 1)
            model[0] = stage
            stages[place] = _flat(context._jvm).invoke(None, model)


@cache  # once a JVM: each compilation makes a class of its own, which the JVM would have to warm up with
def _flat(jvm: Any) -> Any:
    """The method that makes flat trees of a model."""
    compiler = jvm.org.codehaus.janino.SimpleCompiler()
    compiler.setParentClassLoader(jvm.java.lang.Thread.currentThread().getContextClassLoader())
    compiler.cook(_SOURCE.read_text())
    methods = compiler.getClassLoader().loadClass("usedcars.FlatTrees").getMethods()
    return next(method for method in methods if method.getName() == "of")
