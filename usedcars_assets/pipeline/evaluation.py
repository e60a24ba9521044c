"""Errors of predicted prices, in US dollars."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf


@dataclass(frozen=True)
class Metrics:
    """Errors over some rows: rmse, mae and median_absolute_error in USD, mape and r2 as fractions."""

    rows: int
    rmse: float
    mae: float
    mape: float
    r2: float
    median_absolute_error: float


METRIC_NAMES = ("rmse", "mae", "mape", "r2", "median_absolute_error")


def evaluate(predictions: DataFrame, prediction: str | Column = "prediction") -> Metrics:
    """Metrics over all rows, in one Spark job. predictions: `price` and the predicted price, both in USD."""
    return metrics_of(predictions.agg(*metric_columns(prediction)).collect()[0].asDict())


def evaluate_each(rows: DataFrame, predictions: Mapping[str, Column]) -> dict[str, Metrics]:
    """Metrics of several predicted prices of the same rows, by their names, in one Spark job."""
    each = (sf.struct(*metric_columns(predicted)).alias(name) for name, predicted in predictions.items())
    found = rows.agg(*each).collect()[0]
    return {name: metrics_of(found[name].asDict()) for name in predictions}


def metrics_by_slice(
    predictions: DataFrame, column: str, prediction: str | Column = "prediction"
) -> dict[object, Metrics]:
    """Metrics for each value of a column, such as make_name or fold, in one Spark job, by that value."""
    groups = predictions.groupBy(column).agg(*metric_columns(prediction)).collect()
    return {
        group[column]: metrics_of(group.asDict())
        for group in sorted(groups, key=lambda group: (group[column] is None, group[column]))
    }


def mean_and_deviation(metrics: list[Metrics]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and standard deviation of each metric over folds."""
    values = {name: np.array([asdict(fold)[name] for fold in metrics]) for name in METRIC_NAMES}
    return (
        {name: float(of_folds.mean()) for name, of_folds in values.items()},
        {name: float(of_folds.std()) for name, of_folds in values.items()},
    )


def metric_columns(prediction: str | Column) -> list[Column]:
    """What to aggregate of rows for `metrics_of`."""
    price = sf.col("price")
    error = (sf.col(prediction) if isinstance(prediction, str) else prediction) - price
    return [
        sf.count(sf.lit(1)).alias("rows"),
        sf.sqrt(sf.avg(error * error)).alias("rmse"),
        sf.avg(sf.abs(error)).alias("mae"),
        sf.avg(sf.abs(error) / price).alias("mape"),
        # Without spread there is nothing to explain: null, not a division by zero.
        sf.try_divide(sf.avg(error * error), sf.var_pop(price)).alias("unexplained"),
        sf.percentile(sf.abs(error), sf.lit(0.5)).alias("median_absolute_error"),
    ]


def metrics_of(row: dict[str, float | None]) -> Metrics:
    """The metrics of the aggregated `metric_columns`."""
    unexplained = row["unexplained"]
    return Metrics(
        rows=int(row["rows"] or 0),
        r2=float("nan") if unexplained is None else 1.0 - unexplained,
        **{
            name: float("nan") if value is None else float(value)
            for name in METRIC_NAMES
            if name != "r2"
            for value in (row[name],)
        },
    )
