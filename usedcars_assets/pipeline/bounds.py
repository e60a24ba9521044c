"""Predictions of log price stay inside the prices of the training rows.

A linear model extrapolates: one impossible value in a listing, and exp makes millions of it.
"""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
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
    found = rows.agg(sf.min("log_price").alias("low"), sf.max("log_price").alias("high")).collect()[0]
    return Bounds(found.low, found.high)
