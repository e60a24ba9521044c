"""Vectors that keep their zeros.

VectorAssembler leaves zeros out where that takes less room. A tree then searches for each place that it looks
at, some thousand times a row: half of the trees' time, see docs/decisions/025.
"""

import uuid
from typing import Any

import numpy as np
from pyspark.ml.common import _py2java
from pyspark.ml.feature import StandardScalerModel
from pyspark.ml.linalg import DenseVector
from pyspark.sql import SparkSession


def dense_vectors(spark: SparkSession, size: int, sparse: str, dense: str) -> StandardScalerModel:
    """A stage from one vector column to the other: a scaler by nothing, whose vectors are dense."""
    context = spark.sparkContext
    jvm: Any = context._jvm
    zeros, ones = (_py2java(context, DenseVector(np.full(size, value))) for value in (0.0, 1.0))
    scaler = StandardScalerModel(
        jvm.org.apache.spark.ml.feature.StandardScalerModel(f"dense_{uuid.uuid4().hex[:12]}", ones, zeros)
    )
    return scaler._set(inputCol=sparse, outputCol=dense, withMean=True, withStd=False)
