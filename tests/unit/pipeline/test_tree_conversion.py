import json

import numpy as np
import numpy.typing as npt
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyspark.ml.functions import array_to_vector
from pyspark.ml.regression import GBTRegressionModel
from pyspark.sql import SparkSession

from usedcars_assets.pipeline.errors import PipelineError
from usedcars_assets.pipeline.tree_conversion import spark_threshold, spark_trees

Matrix = npt.NDArray[np.float64]


def converted(spark: SparkSession, booster: xgboost.Booster) -> GBTRegressionModel:
    return spark_trees(
        spark,
        bytes(booster.save_raw("json")),
        features=booster.num_features(),
        features_column="x",
        prediction_column="y",
    )


def predicted(spark: SparkSession, model: GBTRegressionModel, rows: Matrix) -> Matrix:
    table = spark.createDataFrame(
        [(place, row) for place, row in enumerate(rows.tolist())], "i int, x array<double>"
    )
    found = model.transform(table.select("i", array_to_vector("x").alias("x"))).select("i", "y").collect()
    return np.array([row.y for row in sorted(found)])


def thresholds(booster: xgboost.Booster) -> npt.NDArray[np.float32]:
    trees = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    return np.array(
        [
            condition
            for tree in trees
            for condition, child in zip(tree["split_conditions"], tree["left_children"], strict=True)
            if child != -1
        ],
        np.float32,
    )


@pytest.mark.parametrize("grow_policy", ["depthwise", "lossguide"])
@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    depth=st.integers(1, 8),
    digits=st.integers(0, 6),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_spark_trees_predict_what_xgboost_does_even_at_the_thresholds(
    spark: SparkSession, grow_policy: str, seed: int, depth: int, digits: int, scale: float
) -> None:
    chance = np.random.default_rng(seed)
    rows = np.round(chance.normal(size=(600, 4)), digits) * scale
    target = 3 + rows[:, 0] / scale + np.sin(rows[:, 1] / scale * 3) + chance.normal(0, 0.1, 600)
    parameters = {"max_depth": depth, "grow_policy": grow_policy, "eta": 0.3, "nthread": 1}
    booster = xgboost.train(parameters, xgboost.DMatrix(rows, target), 15)
    at = thresholds(booster)
    before = np.nextafter(at, np.float32(-np.inf))
    middles = (at.astype(np.float64) + before.astype(np.float64)) / 2
    edges = np.concatenate(
        [
            at.astype(np.float64),
            before.astype(np.float64),
            middles,
            np.nextafter(middles, np.inf),
            np.nextafter(middles, -np.inf),
        ]
    )
    unseen = np.concatenate([rows, chance.choice(edges, (600, 4)), chance.normal(size=(200, 4)) * scale * 5])
    ours = predicted(spark, converted(spark, booster), unseen)
    assert ours == pytest.approx(booster.predict(xgboost.DMatrix(unseen)), abs=1e-5)


@given(arrays(np.float32, 50, elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)))
def test_the_threshold_parts_doubles_as_rounding_to_float32_does(split: npt.NDArray[np.float32]) -> None:
    threshold = spark_threshold(split)
    before = np.nextafter(split, np.float32(-np.inf)).astype(np.float64)
    middle = (split.astype(np.float64) + before) / 2
    for value in (
        split.astype(np.float64),
        before,
        middle,
        np.nextafter(middle, np.inf),
        np.nextafter(middle, -np.inf),
    ):
        assert ((value.astype(np.float32) < split) == (value <= threshold)).all()


def test_a_booster_without_splits_is_its_base_score(spark: SparkSession) -> None:
    booster = xgboost.train({"max_depth": 2}, xgboost.DMatrix(np.ones((10, 2)), np.full(10, 7.5)), 3)
    assert predicted(spark, converted(spark, booster), np.zeros((1, 2))) == pytest.approx([7.5], abs=1e-5)


def test_boosters_that_spark_has_no_equal_for_are_refused(spark: SparkSession) -> None:
    data = xgboost.DMatrix(np.arange(40.0).reshape(20, 2), np.arange(20) % 2)
    with pytest.raises(PipelineError, match="binary:logistic is not a plain sum"):
        converted(spark, xgboost.train({"objective": "binary:logistic"}, data, 2))
    with pytest.raises(PipelineError, match="kind gblinear has no equal"):
        converted(spark, xgboost.train({"booster": "gblinear"}, data, 2))
