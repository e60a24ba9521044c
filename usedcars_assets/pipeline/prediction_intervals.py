"""Intervals around predicted prices that hold a known share of the true ones.

Conformal: as wide as the residuals were for rows that the predicting model had not seen, here the
out-of-fold ones (Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence 74,
2015). Taken in each band of predicted prices by itself (Vovk et al., "Mondrian confidence machine", 2003),
since cheap cars are priced less surely than dear ones. They assume that requests are like the training rows,
and nothing else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

LEVELS = (0.5, 0.8, 0.9, 0.95)
SERVED_LEVEL = 0.9
# Bands of equal numbers of rows; fewer of them when there are not so many rows for each.
_MOST_BANDS, _FEWER_BANDS, _LEAST_ROWS = 10, (5, 2, 1), 200


@dataclass(frozen=True)
class PriceIntervals:
    """How far true log prices lie from predicted ones.

    edges: predicted log prices between the bands; an edge is the first of the next band.
    residuals: by level (the share of true prices inside), the lowest and the highest residual of each band.
    """

    edges: tuple[float, ...]
    residuals: Mapping[float, tuple[tuple[float, float], ...]]

    def sql(self, log_price: str, price: str, level: float = SERVED_LEVEL) -> tuple[str, str]:
        """The ends of the interval in USD, as Spark SQL of a predicted log price and the price made of it.

        The price is never outside, even where the residuals of few rows lie all on one side.
        """
        low, high = zip(*self.residuals[level], strict=True)
        return (
            f"least(exp({log_price} + {self._of_band(log_price, low)}), {price})",
            f"greatest(exp({log_price} + {self._of_band(log_price, high)}), {price})",
        )

    def _of_band(self, log_price: str, values: Sequence[float]) -> str:
        cases = " ".join(
            f"WHEN {log_price} < {edge!r}D THEN {value!r}D"
            for edge, value in zip(self.edges, values[:-1], strict=True)
        )
        return f"CASE {cases} ELSE {values[-1]!r}D END" if cases else f"{values[-1]!r}D"


@dataclass(frozen=True)
class IntervalQuality:
    """By level: the share of true prices inside, and the median of (high - low) / predicted price."""

    coverage: dict[float, float]
    width: dict[float, float]

    def metrics(self) -> dict[str, float]:
        """The same under names as test_coverage_90 and test_interval_width_90."""
        return {
            f"test_{name}_{level * 100:.0f}": value
            for name, values in (("coverage", self.coverage), ("interval_width", self.width))
            for level, value in values.items()
        }


def price_intervals(rows: DataFrame, log_prediction: Column) -> PriceIntervals:
    """The intervals from rows with `log_price` and a prediction of it by a model that did not see them."""
    rows = rows.select("log_price", log_prediction.alias("predicted"))
    tenths = [place / _MOST_BANDS for place in range(1, _MOST_BANDS)]
    found = rows.agg(
        sf.count(sf.lit(1)).alias("rows"),
        sf.percentile("predicted", sf.array(*map(sf.lit, tenths))).alias("tenths"),
    ).collect()[0]
    bands = next(n for n in (_MOST_BANDS, *_FEWER_BANDS) if n == 1 or found["rows"] >= n * _LEAST_ROWS)
    step = _MOST_BANDS // bands
    edges = sorted(set(found.tenths[step - 1 :: step]))  # many rows may share one prediction
    band = sf.lit(0)
    for place, edge in enumerate(edges, 1):
        band = sf.when(sf.col("predicted") >= edge, place).otherwise(band)
    shares = [share for level in LEVELS for share in _shares(level, found["rows"] // bands)]
    quantiles = (
        rows.groupBy(band.alias("band"))
        .agg(
            sf.percentile(sf.col("log_price") - sf.col("predicted"), sf.array(*map(sf.lit, shares))).alias(
                "residuals"
            )
        )
        .orderBy("band")
        .collect()
    )
    return PriceIntervals(
        tuple(edges[row.band - 1] for row in quantiles[1:]),  # of no band without rows
        {
            level: tuple((row.residuals[2 * place], row.residuals[2 * place + 1]) for row in quantiles)
            for place, level in enumerate(LEVELS)
        },
    )


def interval_quality(
    rows: DataFrame, intervals: PriceIntervals, log_prediction: Column, prediction: Column
) -> IntervalQuality:
    """What the intervals are worth on rows with the true `price`, in one Spark job."""
    rows = rows.select("price", log_prediction.alias("log_predicted"), prediction.alias("predicted"))
    wanted: list[Column] = []
    for level in LEVELS:
        low, high = map(sf.expr, intervals.sql("log_predicted", "predicted", level))
        inside = sf.col("price").between(low, high).cast("double")
        width = (high - low) / sf.col("predicted")
        wanted += [sf.avg(inside).alias(f"inside {level}"), sf.median(width).alias(f"width {level}")]
    found = rows.agg(*wanted).collect()[0]
    return IntervalQuality(
        *(
            {level: math.nan if (value := found[f"{what} {level}"]) is None else value for level in LEVELS}
            for what in ("inside", "width")
        )
    )


def _shares(level: float, rows: int) -> tuple[float, float]:
    """The quantiles between which a new residual falls with the probability `level`, given so many of them.

    Of n + 1 exchangeable residuals the new one is as likely any, so that the outer ones count once more.
    """
    if rows < 2:
        return 0.0, 1.0
    beyond = math.floor((1 - level) / 2 * (rows + 1))
    share = max(beyond - 1, 0) / (rows - 1)
    return share, 1 - share
