import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.prediction_intervals import (
    LEVELS,
    SERVED_LEVEL,
    IntervalQuality,
    PriceIntervals,
    interval_quality,
    price_intervals,
)


def market(spark: SparkSession, rows: int, seed: int, spread: float = 0.1, cheap: float = 0.4) -> DataFrame:
    """Cars whose log prices scatter around what is predicted, the cheaper half of them by more."""
    chance = np.random.default_rng(seed)
    predicted = chance.uniform(8, 11, rows)
    log_price = predicted + chance.normal(0, np.where(predicted < 9.5, cheap, spread))
    table = np.column_stack([predicted, log_price, np.exp(log_price)]).tolist()
    return spark.createDataFrame(table, "predicted double, log_price double, price double")


def intervals_of(rows: DataFrame) -> PriceIntervals:
    return price_intervals(rows, sf.col("predicted"))


def quality_of(rows: DataFrame, intervals: PriceIntervals) -> IntervalQuality:
    return interval_quality(rows, intervals, sf.col("predicted"), sf.exp("predicted"))


def test_on_new_rows_each_interval_holds_the_share_that_it_is_meant_to(spark: SparkSession) -> None:
    intervals = intervals_of(market(spark, 5000, seed=1))
    new = market(spark, 5000, seed=2)
    quality = quality_of(new, intervals)
    # Three standard deviations of both samples' shares.
    for level in LEVELS:
        assert quality.coverage[level] == pytest.approx(level, abs=3 * math.sqrt(0.5 / 5000))
    widths = [quality.width[level] for level in LEVELS]
    assert widths == sorted(widths)


def test_intervals_are_wide_where_prices_are_hard_to_tell_and_hold_their_share_there_too(
    spark: SparkSession,
) -> None:
    intervals = intervals_of(market(spark, 5000, seed=1))
    new = market(spark, 5000, seed=2)
    cheap, dear = (
        quality_of(new.where(which), intervals) for which in ("predicted < 9.5", "predicted >= 9.5")
    )
    assert cheap.width[0.9] > 2 * dear.width[0.9]
    assert cheap.coverage[0.9] == pytest.approx(0.9, abs=0.04)
    assert dear.coverage[0.9] == pytest.approx(0.9, abs=0.04)


def test_few_rows_share_one_band_and_their_outermost_residuals_bound_the_widest_interval(
    spark: SparkSession,
) -> None:
    rows = market(spark, 30, seed=3)
    intervals = intervals_of(rows)
    residuals = [row.log_price - row.predicted for row in rows.collect()]
    assert intervals.edges == ()
    assert intervals.residuals[0.95] == (pytest.approx((min(residuals), max(residuals))),)


def test_many_rows_with_one_prediction_are_one_band(spark: SparkSession) -> None:
    chance = np.random.default_rng(4)
    same = [(10.0, 10.0 + float(error)) for error in chance.normal(0, 0.1, 2500)]
    lower = [(9.0, 9.0 + float(error)) for error in chance.normal(0, 0.1, 300)]
    for table, bands in ((same, 1), (same + lower, 2)):
        rows = spark.createDataFrame(table, "predicted double, log_price double")
        intervals = intervals_of(rows)
        assert len(intervals.edges) == bands - 1
        assert all(len(of_bands) == bands for of_bands in intervals.residuals.values())


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edges=st.lists(st.floats(5, 14), unique=True, max_size=4).map(sorted),
    residuals=st.lists(st.tuples(st.floats(-2, 2), st.floats(0, 2)), min_size=5, max_size=5),
    log_prices=st.lists(st.floats(0, 20), min_size=1, max_size=10),
)
def test_a_price_lies_in_its_interval_whatever_the_residuals(
    spark: SparkSession,
    edges: list[float],
    residuals: list[tuple[float, float]],
    log_prices: list[float],
) -> None:
    of_bands = tuple((low, low + width) for low, width in residuals[: len(edges) + 1])
    intervals = PriceIntervals(tuple(edges), {SERVED_LEVEL: of_bands})
    low, high = map(sf.expr, intervals.sql("predicted", "price"))
    rows = spark.createDataFrame(
        [(value, math.exp(value)) for value in log_prices], "predicted double, price double"
    )
    for row in rows.select("*", low.alias("low"), high.alias("high")).collect():
        band = sum(row.predicted >= edge for edge in edges)
        assert row.low == pytest.approx(min(row.price, math.exp(row.predicted + of_bands[band][0])))
        assert row.high == pytest.approx(max(row.price, math.exp(row.predicted + of_bands[band][1])))
