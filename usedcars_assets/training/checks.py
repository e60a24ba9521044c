"""The gates before registration: a version is only registered, and so rolled out, if it passes them."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetCheckSpec,
    AssetKey,
    multi_asset_check,
)

from usedcars_assets.failures import clear_failures
from usedcars_assets.references import StackedModel
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.references import read_reference
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.training.version_in_service import version_in_service

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from usedcars_assets.pipeline.paired_comparison import PairedErrors

STACK = AssetKey("stacked_model")
SAME = 1e-6  # relative difference
# That the stack is worse than its best member, or than the version in service. A few hundred test rows differ
# by some per cent by chance.
CONFIDENCE, FEWEST_ROWS = 0.95, 30


@multi_asset_check(
    name="model_checks",
    specs=[
        AssetCheckSpec(
            "artefact_equals_steps",
            asset=STACK,
            blocking=True,
            description=f"From the raw listing the artefact gives the stack's prices, to {SAME:g} relative.",
        ),
        AssetCheckSpec(
            "model_quality",
            asset=STACK,
            blocking=True,
            description="R² is high enough, and the stack not worse than its best member, beyond chance.",
        ),
        AssetCheckSpec(
            "not_worse_than_serving",
            asset=STACK,
            blocking=True,
            description="On the same test rows, not much worse than the version in service, beyond chance.",
        ),
    ],
)
def model_checks(
    context: AssetCheckExecutionContext, spark: SharedSpark, lake: Lake, mlflow: MlflowTracking
) -> Iterator[AssetCheckResult]:
    """All checks of the stacked model."""
    from usedcars_assets.pipeline.artefact import score_listings
    from usedcars_assets.pipeline.paired_comparison import chance_of_no_excess
    from usedcars_assets.pipeline.queries_at_once import queries_at_once
    from usedcars_assets.pipeline.tables import read_table

    with clear_failures("checking the model"), spark.step(context) as session:
        stacked = read_reference(lake, STACK)
        assert isinstance(stacked, StackedModel)  # noqa: S101  narrows the type of what is stored there
        split = read_table(session, lake.uri(stacked.split_path))
        listings = split.where("split = 'test'").select("listing_id", "listing")
        steps = read_table(session, lake.uri(f"{stacked.path}/test_predictions"))
        artefact = spark.model(lake.uri(f"{stacked.path}/artefact"))
        (rows, different, largest), in_service, beside_best = queries_at_once(
            session,
            lambda: compare(score_listings(artefact, listings), steps),
            lambda: version_in_service(
                mlflow, split, steps, stacked.training, stacked.gates["worse_than_serving"]
            ),
            lambda: beside_best_member(steps, stacked.gates["worse_than_best_member"]),
        )
    yield AssetCheckResult(
        passed=different == 0 and rows == int(stacked.test["rows"]),
        check_name="artefact_equals_steps",
        asset_key=STACK,
        metadata={"rows": rows, "different": different, "largest_relative_difference": largest},
    )
    gates, rmse = stacked.gates, stacked.test["rmse"]
    yield AssetCheckResult(
        passed=stacked.test["r2"] >= gates["least_r2"] and not worse_beyond_chance(beside_best),
        check_name="model_quality",
        asset_key=STACK,
        metadata={
            "r2": stacked.test["r2"],
            "least_r2": gates["least_r2"],
            "rmse": rmse,
            "rmse_of_best_member": stacked.best_member_test["rmse"],
            "best_member": stacked.best_member,
            # Mean |ln(price / true price)|: of both on the same rows.
            "error": beside_best.error,
            "error_of_best_member": beside_best.former_error,
            "chance_that_it_is_not_worse": chance_of_no_excess(beside_best),
        },
    )
    beside_serving, later = (in_service.beside, in_service.later) if in_service else (None, None)
    yield AssetCheckResult(
        passed=beside_serving is None or not worse_beyond_chance(beside_serving),
        check_name="not_worse_than_serving",
        asset_key=STACK,
        metadata={
            "version_in_service": in_service.version if in_service else "none",
            "rmse": rmse,
            "rmse_of_version_in_service": in_service.test.rmse if in_service else "none",
            **(
                {
                    "error": beside_serving.error,
                    "error_of_version_in_service": beside_serving.former_error,
                    "chance_that_it_is_not_worse": chance_of_no_excess(beside_serving),
                }
                if beside_serving
                else {}
            ),
            # Of batches that it never saw: what time has done to it.
            **({f"later_batches_{name}": value for name, value in asdict(later).items()} if later else {}),
        },
    )


def compare(scored: "DataFrame", steps: "DataFrame") -> tuple[int, int, float]:
    """Rows in common, rows whose prices differ by more than SAME, and the largest relative difference."""
    from pyspark.sql import functions as sf

    difference = sf.abs(sf.col("found.price") - sf.col("steps.prediction")) / sf.abs("steps.prediction")
    (row,) = (
        scored.alias("found")
        .join(steps.alias("steps"), "listing_id")
        .select(difference.alias("difference"))
        .agg(
            sf.count(sf.lit(1)).alias("rows"),
            sf.count_if(sf.col("difference").isNull() | ~(sf.col("difference") <= SAME)).alias("different"),
            sf.max("difference").alias("largest"),
        )
        .collect()
    )
    return row.rows, row.different, float(row.largest or 0)


def beside_best_member(steps: "DataFrame", margin: float) -> "PairedErrors":
    """The stack's errors and those of its best member, on the same test rows.

    steps: price, prediction and best_member_prediction in USD.
    """
    from usedcars_assets.pipeline.paired_comparison import paired_errors

    return paired_errors(
        steps.selectExpr(
            "prediction AS price", "best_member_prediction AS former_price", "price AS set_price"
        ),
        margin,
    )


def worse_beyond_chance(found: "PairedErrors") -> bool:
    """Whether the errors are so much larger that the stack is refused for them."""
    from usedcars_assets.pipeline.paired_comparison import is_worse

    return is_worse(found, CONFIDENCE, looks=1, least_pairs=FEWEST_ROWS)
