import json
from typing import Any

from pyspark.ml.feature import SQLTransformer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from streaming_app.input_drift import TrainingDistribution, bin_counts
from usedcars_assets.pipeline.training_distribution import training_distribution


def bins_of(listings: DataFrame, statements: list[str]) -> list[list[int]]:
    for statement in statements:
        listings = SQLTransformer(statement=statement).transform(listings)
    return [list(row.bins) for row in listings.select("bins").collect()]


def test_each_training_row_is_in_one_bin_of_each_feature_and_its_listing_in_the_same(training: Any) -> None:
    document = json.loads(json.dumps(training.distribution.document()))
    rows = training.train.count()
    assert {sum(feature["counts"]) for feature in document["features"]} == {rows}
    listings = training.split.where("split = 'train'").select("listing")
    live = bins_of(listings, document["statements"])
    for place, feature in enumerate(document["features"]):
        counts = [0] * len(feature["counts"])
        for bins in live:
            counts[bins[place]] += 1
        assert counts == feature["counts"], feature["name"]


def test_rejected_listings_are_in_no_bin(training: Any, spark: SparkSession) -> None:
    impossible = spark.createDataFrame([('{"year": "1066"}',), ("no json",)], "listing string")
    assert bins_of(impossible, list(training.distribution.statements)) == []


def test_the_plan_of_a_look_at_live_requests_stays_small(training: Any, spark: SparkSession) -> None:
    trained = TrainingDistribution.read(json.dumps(training.distribution.document()))
    messages = spark.createDataFrame([], "value binary, partition int, offset bigint, timestamp timestamp")
    plan: Any = bin_counts(messages, trained, 65_536)._jdf
    characters = len(plan.queryExecution().optimizedPlan().toString())
    assert characters < 200_000, "Spark has repeated the rules within each other"


def test_bins_are_deciles_frequent_values_what_is_missing_and_what_is_new(spark: SparkSession) -> None:
    rows = spark.range(1000).select(
        sf.when(sf.col("id") >= 100, sf.col("id").cast("double")).alias("miles"),
        sf.expr("CASE WHEN id % 50 = 0 THEN 0D ELSE 1D END").alias("flag"),
        sf.lit(None).cast("double").alias("nothing"),
        sf.expr("CASE WHEN id < 600 THEN 'Ford' WHEN id < 900 THEN \"O'Neil \\\\ 'x\" END").alias("make"),
    )
    found = training_distribution(
        rows, {"miles": "miles", "flag": "flag", "nothing": "nothing"}, ["make"], []
    )
    miles, flag, nothing, make = found.features
    assert len(miles.counts) == 12
    assert miles.counts[0] == 1
    assert miles.counts[-1] == 100
    assert all(80 <= count <= 100 for count in miles.counts[1:-1])
    assert flag.counts == (20, 980, 0, 0)
    assert nothing.counts == (0, 1000)
    assert make.labels == ("Ford", "O'Neil \\ 'x", "other", "missing")
    assert make.counts == (600, 300, 0, 100)
    new = spark.createDataFrame([(1e9, 0.0, 1.0, "Tesla")], rows.schema)
    assert bins_of(new, list(found.statements[-1:])) == [[10, 0, 0, 2]]
