from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.errors import PipelineError
from usedcars_assets.pipeline.features import (
    FEATURE_NAMES,
    FeatureSettings,
    build_features,
    latest_of_each_listing,
    split_rows,
)


def vectors(table: DataFrame, column: str = "features") -> dict[str, np.ndarray]:
    return {row.listing_id: row[column].toArray() for row in table.select("listing_id", column).collect()}


def test_every_cleaned_row_is_in_one_table_and_every_feature_is_a_number(training: Any) -> None:
    train, test = vectors(training.train), vectors(training.test)
    assert not train.keys() & test.keys()
    assert train.keys() | test.keys() == {row.listing_id for row in training.cleaned.collect()}
    for table in (train, test):
        assert all(
            len(vector) == len(FEATURE_NAMES) and np.isfinite(vector).all() for vector in table.values()
        )
    assert all(np.isfinite(vector).all() for vector in vectors(training.train, "linear_features").values())


def test_features_mean_what_their_names_say(training: Any) -> None:
    row = training.train.join(training.cleaned.drop("year"), "listing_id").where("mileage_miles > 0").first()
    named = dict(zip(FEATURE_NAMES, row.features.toArray(), strict=True))
    assert named["power"] == row.horsepower
    assert named["log_miles"] == pytest.approx(np.log1p(row.mileage_miles))
    assert named["model_year"] == row.year
    assert named["litres"] == 1.3
    assert named["cylinders"] == 4
    assert named["options"] == (2 if row.major_options else 0)
    assert named["has_leather"] == (1 if row.major_options else 0)
    assert named["lacks_mileage"] == 0
    assert named["age_years"] == pytest.approx((row.listed_date.toordinal() - _new_year(row.year)) / 365.25)


def _new_year(year: int) -> int:
    import datetime

    return datetime.date(year, 1, 1).toordinal()


def test_a_car_never_moves_between_parts_as_batches_accumulate(training: Any) -> None:
    def places(rows: DataFrame) -> dict[str, tuple[str, int | None]]:
        return {row.vin: (row.split, row.fold) for row in rows.select("vin", "split", "fold").collect()}

    settings = FeatureSettings()
    few = places(split_rows(training.cleaned.where("listing_id % 3 = 0"), settings))
    all_rows = places(split_rows(training.cleaned, settings))
    assert few.items() <= all_rows.items()
    listed_again = split_rows(training.cleaned.withColumn("listing_id", sf.lit("other")), settings)
    assert places(listed_again) == all_rows
    assert places(split_rows(training.cleaned, FeatureSettings(seed=21))) != all_rows
    share = sum(split == "test" for split, _ in all_rows.values()) / len(all_rows)
    assert 0.1 < share < 0.2
    assert {fold for _, fold in all_rows.values()} == {None, *range(5)}


def test_neither_test_rows_nor_their_prices_reach_the_training_features(training: Any) -> None:
    settings = FeatureSettings(folds=3, test_fraction=0.2, rarest=5)
    is_test = split_rows(training.cleaned, settings).withColumn(
        "price_usd", sf.when(sf.col("split") == "test", 999_999.0).otherwise(sf.col("price_usd"))
    )
    changed = build_features(is_test.drop("split", "fold"), settings)
    before, after = vectors(training.train), vectors(changed.train)
    assert all(np.array_equal(before[listing], after[listing]) for listing in before)
    before, after = vectors(training.test), vectors(changed.test)
    assert all(np.array_equal(before[listing], after[listing]) for listing in before)


def test_the_latest_batch_wins_for_a_listing_seen_again(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [("1", 0, "2020-05-01", 10.0), ("1", 1, "2020-04-01", 20.0), ("2", 0, None, 30.0)],
        "listing_id string, batch int, listed_date string, price_usd double",
    )
    latest = latest_of_each_listing(rows)
    assert {(row.listing_id, row.price_usd) for row in latest.collect()} == {("1", 20.0), ("2", 30.0)}


def test_too_few_rows_for_the_folds_are_refused(training: Any) -> None:
    with pytest.raises(PipelineError, match="too few for 5 folds"):
        build_features(training.cleaned.limit(20), FeatureSettings())


def test_a_number_far_from_all_others_counts_as_one_at_their_edge(training: Any) -> None:
    settings = FeatureSettings(folds=2, rarest=5)
    tests = split_rows(training.cleaned, settings).where("split = 'test'")
    odd = tests.orderBy("listing_id").first().listing_id
    horsepower = sf.when(sf.col("listing_id") == odd, 1e6).otherwise(sf.col("horsepower"))
    tables = build_features(training.cleaned.withColumn("horsepower", horsepower), settings)
    of_train, of_test = vectors(tables.train), vectors(tables.test)
    power = FEATURE_NAMES.index("power")
    known = np.array([vector[power] for vector in of_train.values()])
    given = {row.listing_id: row.horsepower for row in training.cleaned.collect()}
    edge = known.mean() + 4 * known.std()
    assert of_test[odd][power] == pytest.approx(edge, rel=1e-5)
    usual = {name: vector for name, vector in (of_train | of_test).items() if name != odd}
    assert all(vector[power] == given[name] for name, vector in usual.items() if given[name] is not None)


def test_columns_missing_in_all_rows_do_no_harm(training: Any) -> None:
    bare = training.cleaned
    for column in ("seller_rating", "bed_length_in", "mileage_miles", "listed_date", "major_options"):
        bare = bare.withColumn(column, sf.lit(None).cast(bare.schema[column].dataType))
    tables = build_features(bare, FeatureSettings(folds=2, rarest=5))
    assert all(np.isfinite(vector).all() for vector in vectors(tables.test).values())
