"""Spark linear models with given coefficients."""

import uuid
from typing import Any

import numpy as np
import numpy.typing as npt
from pyspark.ml.common import _py2java
from pyspark.ml.linalg import DenseVector
from pyspark.ml.regression import LinearRegressionModel
from pyspark.sql import SparkSession


def linear_model(
    spark: SparkSession,
    coefficients: npt.NDArray[np.float64],
    intercept: float,
    features: str,
    prediction: str,
) -> LinearRegressionModel:
    """A Spark linear model with these coefficients."""
    context = spark.sparkContext
    jvm: Any = context._jvm
    model = LinearRegressionModel(
        jvm.org.apache.spark.ml.regression.LinearRegressionModel(
            f"linear_{uuid.uuid4().hex[:12]}", _py2java(context, DenseVector(coefficients)), float(intercept)
        )
    )
    return model.setFeaturesCol(features).setPredictionCol(prediction)
