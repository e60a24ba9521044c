"""A stage as the JVM has it, without a Python object for each of its parts."""

from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.util import JavaMLWritable
from pyspark.ml.wrapper import JavaModel


class JvmStage(JavaModel, JavaMLWritable):
    """Transforms and is written as the JVM's own; of its class nothing else is known here.

    Spark 4.2's wrapper of a tree ensemble asks for its `trees` when it is made, because it looks for
    parameters among all attributes: thousands of gateway calls, seconds, for objects that nobody needs.
    """


def in_one_stage(*stages: Transformer) -> JvmStage:
    """These JVM stages as one; Python's own pipeline inside another would be written for Python alone."""
    return JvmStage(PipelineModel(list(stages))._to_java())
