from datetime import date

import pytest
from pyspark.sql import DataFrame, SparkSession

from usedcars_assets.pipeline.error_slices import (
    AGE_BANDS,
    LEAST_ROWS,
    MOST_VALUES,
    PRICE_BANDS,
    SLICES,
    UNKNOWN,
    errors_by_slice,
)

SCHEMA = (
    "price double, prediction double, listed_date date, year int, make_name string, body_type string, "
    "dealer_zip string"
)


def rows_of(spark: SparkSession, rows: list[tuple[object, ...]]) -> DataFrame:
    """Rows without the ends of their intervals, which are a tenth below and above the prediction."""
    priced = spark.createDataFrame(rows, SCHEMA)  # type: ignore[type-var]
    return priced.selectExpr("*", "0.9D * prediction AS price_low", "1.1D * prediction AS price_high")


@pytest.mark.parametrize(
    ("price", "year", "price_band", "age_band"),
    [
        (4_999.99, 2021, PRICE_BANDS[0], AGE_BANDS[0]),
        (5_000.0, 2019, PRICE_BANDS[1], AGE_BANDS[0]),
        (20_000.0, 2018, PRICE_BANDS[3], AGE_BANDS[1]),
        (50_000.0, 2015, PRICE_BANDS[5], AGE_BANDS[2]),
        (3_000_000.0, 1990, PRICE_BANDS[5], AGE_BANDS[4]),
    ],
)
def test_an_edge_belongs_to_the_band_that_it_begins(
    spark: SparkSession, price: float, year: int, price_band: str, age_band: str
) -> None:
    found = errors_by_slice(rows_of(spark, [(price, price, date(2020, 9, 1), year, "Ford", "SUV", "10001")]))
    assert [one.value for one in found["price (USD)"]] == [price_band]
    assert [one.value for one in found["age"]] == [age_band]


def test_each_row_counts_once_in_each_slice_and_what_is_missing_is_a_value_of_its_own(
    spark: SparkSession,
) -> None:
    known = (10_000.0, 11_000.0, date(2020, 9, 1), 2018, "Ford", "SUV", "10001")
    unknown = (10_000.0, 9_000.0, None, None, None, None, None)
    found = errors_by_slice(rows_of(spark, [known] * 6 + [unknown] * 5))
    assert list(found) == list(SLICES)
    for values in found.values():
        assert sum(one.metrics.rows for one in values) == 11
    assert [one.value for one in found["make"]] == ["Ford", UNKNOWN]
    assert [one.value for one in found["age"]] == [AGE_BANDS[1], UNKNOWN]
    ford, other = found["make"]
    assert (ford.median, other.median) == (pytest.approx(0.1), pytest.approx(-0.1))
    assert (ford.metrics.mae, other.metrics.rows) == (1_000, 5)
    assert (ford.coverage, other.coverage) == (1, 0)
    assert (ford.width, other.width) == (pytest.approx(0.2), pytest.approx(0.2))


def test_of_many_makes_the_most_frequent_are_shown_and_none_of_few_rows(spark: SparkSession) -> None:
    makes = [f"make-{place:02}" for place in range(MOST_VALUES + 3) for _ in range(LEAST_ROWS + place)]
    makes += ["rare"] * (LEAST_ROWS - 1)
    rows = [(10_000.0, 10_000.0, date(2020, 9, 1), 2018, make, "SUV", "10001") for make in makes]
    shown = [one.value for one in errors_by_slice(rows_of(spark, rows))["make"]]
    assert shown == [f"make-{place:02}" for place in range(MOST_VALUES + 2, 2, -1)]
