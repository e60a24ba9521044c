"""What the check of the features sees, and what it lets pass."""

from pyspark.ml import PipelineModel
from pyspark.ml.feature import SQLTransformer
from pyspark.sql import SparkSession

from usedcars_assets.features.checks import rows_moved_by_price


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
