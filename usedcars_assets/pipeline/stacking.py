"""The stacked model: a linear model over what the base models predict for rows that they did not see.

Wolpert, "Stacked generalization", Neural Networks 5, 1992; weights that are not negative after Breiman,
"Stacked regressions", Machine Learning 24, 1996.
"""

import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import numpy as np
import numpy.typing as npt
from pyspark.ml.regression import LinearRegressionModel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.bounds import Bounds, log_price_bounds
from usedcars_assets.pipeline.errors import PipelineError
from usedcars_assets.pipeline.evaluation import Metrics, evaluate_each, mean_and_deviation, metrics_by_slice
from usedcars_assets.pipeline.linear_models import linear_model
from usedcars_assets.pipeline.prediction_intervals import (
    IntervalQuality,
    PriceIntervals,
    interval_quality,
    price_intervals,
)
from usedcars_assets.pipeline.smearing import smearing_estimates

MEMBER_PREDICTIONS = "member_predictions"
LOG_PRICE_PREDICTION = "log_price_prediction"
_STACK = "stack"
_IN_SAMPLE = "in sample"
_Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StackResult:
    """The meta-model and what it is worth.

    model: vector of the predictions of `served_members` (log price, in this order) to log price.
    weights: of each member, none negative.
    bounds: inside which each member's prediction is kept before it is weighed.
    smearing: what to multiply exp(log price) with for the expected price.
    intervals: around the price, from the out-of-fold residuals; interval_quality: on the test rows.
    out_of_fold_metrics: of predictions whose weights were estimated on the same rows (a few numbers from all
        training rows); cv_mean, cv_deviation: of the same over the folds; train_metrics: of what the members,
        trained on all rows, say of these; test_metrics: of rows that nothing was estimated on.
    test_predictions: listing_id, price, prediction, price_low, price_high, best_member_prediction (USD).
    best_member: the member with the least out-of-fold error; improvement: by how much of its test RMSE the
        stack is better, as a fraction, negative when it is worse.
    """

    model: LinearRegressionModel
    weights: dict[str, float]
    bounds: Bounds
    smearing: float
    intervals: PriceIntervals
    interval_quality: IntervalQuality
    out_of_fold_metrics: Metrics
    cv_mean: dict[str, float]
    cv_deviation: dict[str, float]
    train_metrics: Metrics
    test_metrics: Metrics
    member_test_metrics: dict[str, Metrics]
    test_predictions: DataFrame
    best_member: str
    improvement: float
    training_seconds: float
    validation_seconds: float

    @property
    def served_members(self) -> tuple[str, ...]:
        """The members that a price depends on."""
        return _with_weight(self.weights)


def train_stack(
    out_of_fold: Mapping[str, DataFrame], test_predictions: Mapping[str, DataFrame]
) -> StackResult:
    """Fits the meta-model by least squares over the members' out-of-fold predictions of log price.

    Both mappings are by member name, tables as in MemberResult. Nothing in it is random.
    """
    start = time.monotonic()
    names = sorted(out_of_fold)
    columns = [f"prediction_{name}" for name in names]
    unseen = _joined(
        out_of_fold, names, ["fold", "price", "log_price"], ["prediction", "in_sample"]
    ).persist()
    test = _joined(test_predictions, names, ["price"], ["prediction"]).persist()
    try:
        weights, intercept = _non_negative_least_squares(*_moments(unseen, columns))

        def stacked(kind: str) -> Column:
            weighed = (sf.col(f"{kind}_{name}") * float(w) for name, w in zip(names, weights, strict=True))
            return reduce(operator.add, weighed, sf.lit(float(intercept)))

        log_prices = {_STACK: stacked("prediction"), **{name: sf.col(f"prediction_{name}") for name in names}}
        bounds = log_price_bounds(unseen)
        smearing = smearing_estimates(unseen, log_prices)
        prices = {name: sf.exp(log_price) * smearing[name] for name, log_price in log_prices.items()}
        intervals = price_intervals(unseen, log_prices[_STACK])
        training_seconds = time.monotonic() - start
        of_folds = list(metrics_by_slice(unseen, "fold", prices[_STACK]).values())
        in_sample = {_IN_SAMPLE: sf.exp(stacked("in_sample")) * smearing[_STACK]}
        of_unseen, of_test = evaluate_each(unseen, {**prices, **in_sample}), evaluate_each(test, prices)
        of_intervals = interval_quality(test, intervals, log_prices[_STACK], prices[_STACK])
    finally:
        unseen.unpersist()
        test.unpersist()
    best_member = min(names, key=lambda name: of_unseen[name].rmse)
    cv_mean, cv_deviation = mean_and_deviation(of_folds)
    by_name = dict(zip(names, weights.tolist(), strict=True))
    served = np.array([by_name[name] for name in _with_weight(by_name)])
    model = linear_model(
        unseen.sparkSession, served, float(intercept), MEMBER_PREDICTIONS, LOG_PRICE_PREDICTION
    )
    return StackResult(
        model=model,
        weights=by_name,
        bounds=bounds,
        smearing=smearing[_STACK],
        intervals=intervals,
        interval_quality=of_intervals,
        out_of_fold_metrics=of_unseen[_STACK],
        cv_mean=cv_mean,
        cv_deviation=cv_deviation,
        train_metrics=of_unseen[_IN_SAMPLE],
        test_metrics=of_test[_STACK],
        member_test_metrics={name: of_test[name] for name in names},
        test_predictions=_with_interval(
            test.select(
                "listing_id",
                "price",
                log_prices[_STACK].alias(LOG_PRICE_PREDICTION),
                prices[_STACK].alias("prediction"),
                prices[best_member].alias("best_member_prediction"),
            ),
            intervals,
        ),
        best_member=best_member,
        improvement=1.0 - of_test[_STACK].rmse / of_test[best_member].rmse,
        training_seconds=training_seconds,
        validation_seconds=time.monotonic() - start - training_seconds,
    )


def _with_weight(weights: Mapping[str, float]) -> tuple[str, ...]:
    """The members with a weight; all of them where none has one, as a model needs inputs."""
    return tuple(name for name, weight in weights.items() if weight) or tuple(weights)


def _with_interval(predictions: DataFrame, intervals: PriceIntervals) -> DataFrame:
    low, high = map(sf.expr, intervals.sql(LOG_PRICE_PREDICTION, "prediction"))
    return predictions.withColumns({"price_low": low, "price_high": high}).drop(LOG_PRICE_PREDICTION)


def _joined(
    tables: Mapping[str, DataFrame], names: Sequence[str], others: Sequence[str], of_each: Sequence[str]
) -> DataFrame:
    first, *rest = (
        tables[name].select("listing_id", *(f"{kind}_{name}" for kind in of_each)) for name in names
    )
    joined = reduce(lambda left, right: left.join(right, "listing_id"), rest, first)
    return tables[names[0]].select("listing_id", *others).join(joined, "listing_id")


def _moments(rows: DataFrame, columns: Sequence[str]) -> tuple[_Numbers, _Numbers, _Numbers, float]:
    """Means and covariances of the predictions, their covariances with log price, its mean."""
    wanted = [*columns, "log_price"]
    pairs = [(left, right) for left in columns for right in wanted]
    found = rows.agg(
        *(sf.avg(column).alias(column) for column in wanted),
        *(sf.covar_pop(left, right).alias(f"{left} {right}") for left, right in pairs),
    ).collect()[0]
    if found["log_price"] is None:
        raise PipelineError(
            f"The out-of-fold predictions of {', '.join(columns)} have no listing in common: "
            "train these members again on the same feature tables."
        )
    return (
        np.array([found[column] for column in columns]),
        np.array([[found[f"{left} {right}"] for right in columns] for left in columns]),
        np.array([found[f"{column} log_price"] for column in columns]),
        float(found["log_price"]),
    )


def _non_negative_least_squares(
    means: _Numbers, covariances: _Numbers, with_target: _Numbers, target_mean: float
) -> tuple[_Numbers, float]:
    """Weights and intercept: the best of the plain solutions over all subsets whose weights are not negative.

    Among few members that is exact, and needs no iteration.
    """
    members = range(len(means))
    best, least = np.zeros(len(means)), 0.0
    for size in range(1, len(means) + 1):
        for subset in combinations(members, size):
            chosen = list(subset)
            solution = np.linalg.lstsq(covariances[np.ix_(chosen, chosen)], with_target[chosen], rcond=1e-12)[
                0
            ]
            # The mean squared error less the variance of the target.
            error = float(-solution @ with_target[chosen])
            if solution.min() >= 0 and error < least:
                best, least = np.zeros(len(means)), error
                best[chosen] = solution
    return best, target_mean - float(best @ means)
