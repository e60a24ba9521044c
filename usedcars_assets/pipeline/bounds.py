"""Predictions of log price stay inside the prices of the training rows.

A linear model extrapolates: one impossible value in a listing, and exp makes millions of it.
"""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as sf


@dataclass(frozen=True)
class Bounds:
    """The least and the largest log price of the training rows."""

    low: float
    high: float

    def sql(self, prediction: str) -> str:
        """The prediction, kept inside, as Spark SQL."""
        return f"least(greatest({prediction}, {self.low!r}D), {self.high!r}D)"

    def kept_inside(self, prediction: str) -> Column:
        """The same as a column, under its own name."""
        return sf.expr(self.sql(prediction)).alias(prediction)


def log_price_bounds(rows: DataFrame) -> Bounds:
    """The bounds of rows with `log_price`."""
    return bounds_of(rows.agg(*log_price_extremes()).collect()[0])


def log_price_extremes() -> tuple[Column, Column]:
    """What to aggregate of rows for `bounds_of`."""
    return sf.min("log_price").alias("low"), sf.max("log_price").alias("high")


def bounds_of(row: Row) -> Bounds:
    """The bounds of the aggregated `log_price_extremes`."""
    return Bounds(row.low, row.high)
