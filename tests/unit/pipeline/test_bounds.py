import math

import pytest
from pyspark.sql import SparkSession

from usedcars_assets.pipeline.bounds import Bounds, log_price_bounds


def test_a_prediction_beyond_every_price_of_the_training_rows_is_kept_inside(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(7.5,), (11.25,), (9.0,)], "log_price DOUBLE")
    bounds = log_price_bounds(rows)
    assert bounds == Bounds(7.5, 11.25)
    predicted = spark.createDataFrame([(400.0,), (-3.0,), (10.0,), (math.inf,)], "prediction DOUBLE")
    kept = [row.prediction for row in predicted.select(bounds.kept_inside("prediction")).collect()]
    assert kept == [11.25, 7.5, 10.0, 11.25]


@pytest.mark.parametrize("low", [math.log(200), 0.1 + 0.2])
def test_bounds_are_written_to_the_last_digit(spark: SparkSession, low: float) -> None:
    rows = spark.createDataFrame([(-1.0,)], "prediction DOUBLE")
    assert rows.select(Bounds(low, 20.0).kept_inside("prediction")).first()[0] == low  # type: ignore[index]
