import math
from dataclasses import asdict

import numpy as np
import pytest
from pyspark.sql import SparkSession
from sklearn import metrics as peer

from usedcars_assets.pipeline.evaluation import Metrics, evaluate, mean_and_deviation, metrics_by_slice


def test_metrics_are_those_of_scikit_learn(spark: SparkSession) -> None:
    chance = np.random.default_rng(1)
    price = chance.uniform(1_000, 50_000, 301)
    prediction = price * chance.normal(1, 0.1, 301)
    rows = spark.createDataFrame(
        list(zip(price.tolist(), prediction.tolist(), strict=True)), ["price", "prediction"]
    )
    found = evaluate(rows)
    wanted = Metrics(
        rows=301,
        rmse=peer.root_mean_squared_error(price, prediction),
        mae=peer.mean_absolute_error(price, prediction),
        mape=peer.mean_absolute_percentage_error(price, prediction),
        r2=peer.r2_score(price, prediction),
        median_absolute_error=peer.median_absolute_error(price, prediction),
    )
    assert asdict(found) == pytest.approx(asdict(wanted))


def test_slices_are_evaluated_by_their_own_rows(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [("b", 100.0, 110.0), ("a", 100.0, 100.0), ("a", 200.0, 220.0), (None, 10.0, 10.0)],
        "make_name string, price double, prediction double",
    )
    found = metrics_by_slice(rows, "make_name")
    assert list(found) == ["a", "b", None]
    assert found["a"].mae == 10
    assert found["b"].rows == 1
    assert math.isnan(found["b"].r2)  # one row has no spread to explain
    assert mean_and_deviation([found["a"], found["b"]])[0]["mae"] == 10
