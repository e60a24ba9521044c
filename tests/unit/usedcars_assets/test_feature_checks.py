"""What the checks of features and models see, and what they let pass."""

import json

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.feature import SQLTransformer
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession

from usedcars_assets.features.checks import (
    correlations_and_missing,
    listings_that_name_a_price,
    rows_moved_by_price,
)
from usedcars_assets.pipeline.features import FEATURE_NAMES
from usedcars_assets.training.checks import beside_best_member, compare, worse_beyond_chance
from usedcars_assets.training.version_in_service import beside_new_model


def features_of(sql: str) -> PipelineModel:
    statement = f"SELECT *, array({sql}) AS features, array(1) AS linear_features FROM __THIS__"  # noqa: S608
    return PipelineModel([SQLTransformer(statement=statement)])


def test_each_row_whose_features_follow_its_price_is_counted(spark: SparkSession) -> None:
    split = spark.createDataFrame(
        [("a", 9_000.0), ("b", 11_000.0), ("c", 30_000.0)], "listing_id STRING, price_usd DOUBLE"
    )
    assert rows_moved_by_price(features_of("price_usd"), split) == 3
    assert rows_moved_by_price(features_of("if(listing_id = 'b', price_usd, 0D)"), split) == 1
    assert rows_moved_by_price(features_of("length(listing_id)"), split) == 0


def test_each_listing_that_names_what_goes_with_the_price_is_counted(spark: SparkSession) -> None:
    listings = ['{"price": "1"}', '{"savings_amount": 2}', '{"year": "2018"}', '{"priceless": "3"}']
    listings += [json.dumps({"trim_name": '"price":1'})]
    split = spark.createDataFrame([(listing,) for listing in listings], "listing STRING")
    assert listings_that_name_a_price(split) == 2


def test_a_feature_correlates_with_the_price_as_numpy_has_it_and_one_that_never_varies_with_nothing(
    spark: SparkSession,
) -> None:
    random = np.random.default_rng(1)
    features = random.normal(1_000, 3, (300, len(FEATURE_NAMES))).astype(np.float32).astype(float)
    prices = features[:, 0] * 2 + random.normal(18_000, 2, 300)
    features[:, 1] = 7
    found, missing = correlations_and_missing(table_of(spark, features, prices), range(3))
    assert missing == 0
    assert set(FEATURE_NAMES) - set(found) == {FEATURE_NAMES[1]}
    assert found[FEATURE_NAMES[0]] > 0.9
    for place, name in enumerate(FEATURE_NAMES):
        if place != 1:
            assert found[name] == pytest.approx(np.corrcoef(features[:, place], prices)[0, 1], abs=1e-6)


def test_each_row_with_a_feature_that_is_no_number_is_counted(spark: SparkSession) -> None:
    features = np.random.default_rng(1).normal(size=(30, len(FEATURE_NAMES)))
    features[3, 5] = features[4, 5] = features[4, 6] = np.nan
    features[7, 6] = -np.inf
    found, missing = correlations_and_missing(table_of(spark, features, features[:, 0] + 9_000), range(3))
    assert missing == 3
    assert set(FEATURE_NAMES) - set(found) == {FEATURE_NAMES[5], FEATURE_NAMES[6]}
    assert found[FEATURE_NAMES[0]] == pytest.approx(1)


def table_of(spark: SparkSession, features: np.ndarray, prices: np.ndarray) -> DataFrame:
    rows = [
        (number % 3, float(price), Vectors.dense(row))
        for number, (row, price) in enumerate(zip(features, prices, strict=True))
    ]
    return spark.createDataFrame(rows, ["fold", "price", "features"])


def test_each_row_that_the_artefact_prices_otherwise_than_its_steps_is_counted(spark: SparkSession) -> None:
    steps = spark.createDataFrame(
        [("a", 10_000.0), ("b", 20_000.0), ("c", 30_000.0)], "listing_id STRING, prediction DOUBLE"
    )
    scored = spark.createDataFrame(
        [("a", 10_000.001), ("b", 20_200.0), ("c", None)], "listing_id STRING, price DOUBLE"
    )
    rows, different, largest = compare(scored, steps)
    assert (rows, different) == (3, 2)
    assert 0.0099 < largest < 0.0101


def test_a_stack_is_worse_than_its_best_member_when_its_rows_say_so_and_not_when_chance_does(
    spark: SparkSession,
) -> None:
    def refused(factor: float, by_chance: float) -> bool:
        """Errors of the member of 1 to 20 %; the stack's are so many times them, and sway from row to row."""
        table = [
            (20_000.0, 20_000 * (1 + error * (factor + by_chance * (-1) ** n)), 20_000 * (1 + error))
            for n, error in enumerate(0.01 + 0.001 * (n * 37 % 190) for n in range(250))
        ]
        steps = spark.createDataFrame(table, "price DOUBLE, prediction DOUBLE, best_member_prediction DOUBLE")
        return worse_beyond_chance(beside_best_member(steps, 0.02))

    assert refused(1.2, by_chance=0.5)
    assert not refused(1.04, by_chance=0.5), "4 % more, of errors that sway by half"
    assert not refused(0.9, by_chance=0.5)


def test_a_model_is_worse_than_the_version_in_service_when_the_rows_that_both_price_say_so(
    spark: SparkSession,
) -> None:
    def refused(error: float, rows: int) -> bool:
        """The version in service is off by 10 %; it has no price of every tenth row."""
        steps = spark.range(rows).selectExpr("id AS listing_id", f"20000 * (1 + {error}) AS prediction")
        priced = spark.range(rows).where("id % 10 > 0")
        priced = priced.selectExpr("id AS listing_id", "20000D AS price", "22000D AS prediction")
        found = beside_new_model(priced, steps, 0.25)
        assert found.pairs == rows - rows // 10
        return worse_beyond_chance(found)

    assert refused(error=0.15, rows=200)
    assert not refused(error=0.12, rows=200), "a fifth more is within the margin"
    assert not refused(error=0.15, rows=30), "27 rows decide nothing"
