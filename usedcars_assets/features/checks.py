"""What must hold of feature tables before any model sees them: nothing of the price leaks into them."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetCheckSpec,
    AssetKey,
    MetadataValue,
    multi_asset_check,
)

from usedcars_assets.failures import clear_failures
from usedcars_assets.references import FeatureTable, FittedFeatures
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.references import read_reference
from usedcars_assets.resources.spark import SharedSpark

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

TRAIN, TEST, FITTED = AssetKey("train_features"), AssetKey("test_features"), AssetKey("feature_pipeline")
MOST_CORRELATION = 0.98
_SAMPLE_ROWS = 500
_PRICE_FIELDS = ("price", "savings_amount")


@multi_asset_check(
    name="feature_checks",
    specs=[
        AssetCheckSpec(
            "price_leakage",
            asset=TRAIN,
            additional_deps=[FITTED],
            blocking=True,
            description=(
                "Features stay the same when the price is another, listings name neither price nor saving, "
                f"and no feature's correlation with the price exceeds {MOST_CORRELATION}."
            ),
        ),
        AssetCheckSpec(
            "train_and_test_apart",
            asset=TRAIN,
            additional_deps=[TEST],
            blocking=True,
            description="No listing is in both tables.",
        ),
        AssetCheckSpec(
            "no_missing_features",
            asset=TRAIN,
            blocking=True,
            description="No feature of a training row is missing or infinite.",
        ),
    ],
)
def feature_checks(
    context: AssetCheckExecutionContext, spark: SharedSpark, lake: Lake
) -> Iterator[AssetCheckResult]:
    """All checks of the feature tables."""
    from usedcars_assets.pipeline.queries_at_once import queries_at_once
    from usedcars_assets.pipeline.tables import read_table

    with clear_failures("checking features"), spark.step(context) as session:
        train, test, fitted = (read_reference(lake, key) for key in (TRAIN, TEST, FITTED))
        assert isinstance(train, FeatureTable)  # noqa: S101  narrows the types of what is stored there
        assert isinstance(test, FeatureTable)  # noqa: S101
        assert isinstance(fitted, FittedFeatures)  # noqa: S101
        rows, test_rows, split = (
            read_table(session, lake.uri(path)) for path in (train.path, test.path, fitted.split_path)
        )
        moved, named, (correlations, missing), in_both = queries_at_once(
            session,
            lambda: rows_moved_by_price(spark.model(lake.uri(fitted.path)), split),
            lambda: listings_that_name_a_price(split),
            lambda: correlations_and_missing(rows, range(train.training.folds)),
            lambda: rows.join(test_rows, "listing_id", "left_semi").count(),
        )
    strongest = dict(sorted(correlations.items(), key=lambda item: -abs(item[1]))[:10])
    too_strong = {name: value for name, value in correlations.items() if abs(value) > MOST_CORRELATION}
    yield AssetCheckResult(
        passed=not moved and not named and not too_strong,
        check_name="price_leakage",
        asset_key=TRAIN,
        metadata={
            "rows_moved_by_price": moved,
            "listings_that_name_a_price": named,
            "strongest_correlations": MetadataValue.json(strongest),
        },
    )
    yield AssetCheckResult(
        passed=in_both == 0,
        check_name="train_and_test_apart",
        asset_key=TRAIN,
        metadata={"listings_in_both": in_both},
    )
    yield AssetCheckResult(
        passed=missing == 0,
        check_name="no_missing_features",
        asset_key=TRAIN,
        metadata={"rows_with_missing": missing},
    )


def rows_moved_by_price(pipeline: "PipelineModel", split: "DataFrame") -> int:
    """Of the first rows, those whose features change when their price does."""
    from pyspark.sql import functions as sf

    sample = split.limit(_SAMPLE_ROWS)  # not in an order, for which all rows would be read
    # Both prices in one table: what a plan costs on few rows is its compilation.
    prices = sf.array("price_usd", sf.col("price_usd") * 3 + 1234)
    vectors = sf.struct(*(sf.col(name).cast("string") for name in ("features", "linear_features")))
    return (
        pipeline.transform(sample.withColumn("price_usd", sf.explode(prices)))
        .groupBy("listing_id")
        .agg(sf.count_distinct(vectors).alias("different"))
        .where("different > 1")
        .count()
    )


def listings_that_name_a_price(split: "DataFrame") -> int:
    """Rows whose listing, which is all that the model reads, has a field that goes with the price."""
    return split.where(
        # The name of a field: inside of a text its quotes would have a backslash before them.
        " OR ".join(f"contains(listing, '\"{field}\":')" for field in _PRICE_FIELDS)
    ).count()


def correlations_and_missing(rows: "DataFrame", folds: Sequence[int]) -> tuple[dict[str, float], int]:
    """The correlation of each feature with the price, and the rows with a feature that is no number.

    A feature that is the same in all rows has no correlation, and none when it is no number in some.
    """
    import numpy as np
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as sf

    from usedcars_assets.pipeline.features import FEATURE_NAMES
    from usedcars_assets.pipeline.lines_by_fold import Standardised, sums_by_fold

    sums = sums_by_fold(rows, "features", folds, target="price").sum(axis=0)
    found = Standardised.of(sums)
    with_price = found.with_target / (found.target_spread or 1.0)
    correlations = {
        name: float(value)
        for name, value, spread in zip(FEATURE_NAMES, with_price, found.spread, strict=True)
        if spread > 0
    }
    if np.isfinite(sums).all():
        return correlations, 0
    values, infinity = vector_to_array(sf.col("features")), sf.lit(float("inf"))
    # NaN is the largest number to Spark.
    missing = rows.where((sf.array_max(values) >= infinity) | (sf.array_min(values) <= -infinity)).count()
    return correlations, missing
