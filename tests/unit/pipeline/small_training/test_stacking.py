from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from usedcars_assets.pipeline.errors import PipelineError
from usedcars_assets.pipeline.stacking import train_stack


def predictions(spark: SparkSession, name: str, truth: np.ndarray, predicted: np.ndarray) -> DataFrame:
    """The same for rows that the member saw and for those that it did not."""
    rows = [
        (str(place), place % 3, float(np.exp(log_price)), float(log_price), float(value), float(value))
        for place, (log_price, value) in enumerate(zip(truth, predicted, strict=True))
    ]
    columns = ["listing_id", "fold", "price", "log_price", f"prediction_{name}", f"in_sample_{name}"]
    return spark.createDataFrame(rows, columns)


def test_members_that_err_differently_are_better_together(spark: SparkSession) -> None:
    chance = np.random.default_rng(5)
    truth = chance.normal(10, 0.5, 2000)
    tables = {
        "sharp": predictions(spark, "sharp", truth, truth + chance.normal(0, 0.1, 2000)),
        "dull": predictions(spark, "dull", truth, truth + chance.normal(0, 0.15, 2000)),
        # Twice the dull one less the truth: plain least squares would give it a negative weight.
        "harmful": predictions(spark, "harmful", truth, chance.normal(10, 0.5, 2000)),
    }
    stack = train_stack(tables, tables)
    assert list(stack.weights) == ["dull", "harmful", "sharp"]
    assert min(stack.weights.values()) >= 0
    assert stack.weights["sharp"] > stack.weights["dull"] > stack.weights["harmful"]
    assert stack.weights["harmful"] < 0.02
    assert stack.best_member == "sharp"
    assert stack.improvement > 0.1
    assert stack.test_metrics.rmse < stack.member_test_metrics["sharp"].rmse
    assert stack.train_metrics == stack.out_of_fold_metrics
    assert stack.cv_mean["rmse"] == pytest.approx(stack.out_of_fold_metrics.rmse, rel=0.1)
    assert 0 < stack.cv_deviation["rmse"] < stack.cv_mean["rmse"] / 4


def test_weights_are_the_plain_least_squares_when_these_are_not_negative(spark: SparkSession) -> None:
    chance = np.random.default_rng(6)
    truth = chance.normal(10, 0.5, 500)
    inputs = np.stack([truth + chance.normal(0, 0.1, 500), 0.5 * truth + chance.normal(0, 0.1, 500)], axis=1)
    tables = {name: predictions(spark, name, truth, inputs[:, place]) for place, name in enumerate("ab")}
    stack = train_stack(tables, tables)
    with_one = np.column_stack([inputs, np.ones(500)])
    wanted = np.linalg.lstsq(with_one, truth, rcond=None)[0]
    assert [*stack.weights.values(), stack.model.intercept] == pytest.approx(wanted.tolist(), abs=1e-8)


def test_one_member_can_stand_alone(spark: SparkSession) -> None:
    truth = np.linspace(9, 11, 50)
    tables = {"only": predictions(spark, "only", truth, truth + 0.1)}
    stack = train_stack(tables, tables)
    assert stack.weights == {"only": pytest.approx(1.0)}
    assert stack.model.intercept == pytest.approx(-0.1)


def test_a_member_that_would_need_a_negative_weight_is_not_served(spark: SparkSession) -> None:
    chance = np.random.default_rng(7)
    truth = chance.normal(10, 0.5, 200)
    told = {"contrary": 20 - truth + chance.normal(0, 0.1, 200), "near": truth + chance.normal(0, 0.1, 200)}
    tables = {name: predictions(spark, name, truth, values) for name, values in told.items()}
    both, alone = train_stack(tables, tables), train_stack({"near": tables["near"]}, {"near": tables["near"]})
    assert both.weights == {"contrary": 0.0, "near": pytest.approx(alone.weights["near"])}
    assert both.served_members == ("near",)
    assert both.model.coefficients.toArray() == pytest.approx(alone.model.coefficients.toArray())


def test_members_of_different_trainings_are_refused(spark: SparkSession) -> None:
    truth = np.linspace(9, 11, 50)
    one = predictions(spark, "one", truth, truth)
    other = predictions(spark, "other", truth, truth).selectExpr(
        "concat('x', listing_id) AS listing_id", "* EXCEPT (listing_id)"
    )
    with pytest.raises(PipelineError, match="no listing in common"):
        train_stack({"one": one, "other": other}, {"one": one, "other": other})


def test_the_stack_of_a_training_predicts_every_test_row(training: Any) -> None:
    assert training.stack.test_predictions.count() == training.test.count()
    assert set(training.stack.weights) == set(training.members)
    assert training.stack.test_metrics.r2 > 0.7
