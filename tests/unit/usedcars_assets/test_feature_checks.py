"""What the check of the features sees, and what it lets pass."""

from pyspark.ml import PipelineModel
from pyspark.ml.feature import SQLTransformer
from pyspark.sql import SparkSession

from usedcars_assets.features.checks import listings_that_name_a_price, rows_moved_by_price
from usedcars_assets.training.checks import compare


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
    split = spark.createDataFrame([(listing,) for listing in listings], "listing STRING")
    assert listings_that_name_a_price(split) == 2


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
