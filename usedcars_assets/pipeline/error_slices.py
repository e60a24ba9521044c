"""Errors of predicted prices where they differ: by price, age, make, body and region."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.evaluation import Metrics, metric_columns, metrics_of

UNKNOWN = "not known"
# A category with fewer rows says little.
MOST_VALUES, LEAST_ROWS = 15, 5


def _bands(value: str, edges: Sequence[int], labels: Sequence[str]) -> str:
    """SQL: the label of the band that a number lies in; an edge is the first number of the next band."""
    cases = " ".join(
        f"WHEN {value} < {edge} THEN '{label}'" for edge, label in zip(edges, labels[:-1], strict=True)
    )
    return f"CASE WHEN {value} IS NULL THEN '{UNKNOWN}' {cases} ELSE '{labels[-1]}' END"


PRICE_BANDS = (
    *("below 5,000", "5,000 to 10,000", "10,000 to 20,000", "20,000 to 30,000", "30,000 to 50,000"),
    "50,000 and more",
)
AGE_BANDS = ("at most 1 year", "2 to 4 years", "5 to 9 years", "10 to 19 years", "20 years and more")
SLICES: Mapping[str, str] = {
    "price (USD)": _bands("price", (5_000, 10_000, 20_000, 30_000, 50_000), PRICE_BANDS),
    "age": _bands("year(listed_date) - year", (2, 5, 10, 20), AGE_BANDS),
    "make": f"coalesce(make_name, '{UNKNOWN}')",
    "body": f"coalesce(body_type, '{UNKNOWN}')",
    # The first digit of a US ZIP code names a group of neighbouring states, from 0 (north-east) to 9 (west).
    "region (first digit of the ZIP code)": f"coalesce(substring(dealer_zip, 1, 1), '{UNKNOWN}')",
}
_ORDER = {label: place for bands in (PRICE_BANDS, AGE_BANDS) for place, label in enumerate(bands)}


@dataclass(frozen=True)
class SliceErrors:
    """Errors of the rows with one value.

    tenth, median, ninetieth: quantiles of (predicted - true) / true price; coverage: the share of true prices
    inside their interval; width: the median of (high - low) / predicted price.
    """

    value: str
    metrics: Metrics
    tenth: float
    median: float
    ninetieth: float
    coverage: float
    width: float


def errors_by_slice(rows: DataFrame) -> dict[str, list[SliceErrors]]:
    """The errors for each value of each of SLICES.

    rows: `price`, `prediction`, `price_low` and `price_high` in USD, and the cleaned columns. Bands come in
    their order; of the other slices those with the most rows, at most MOST_VALUES of at least LEAST_ROWS rows
    each.
    """
    slices = [
        sf.struct(sf.lit(name).alias("name"), sf.expr(value).alias("value")) for name, value in SLICES.items()
    ]
    sliced = rows.select(
        "price", "prediction", "price_low", "price_high", sf.explode(sf.array(*slices)).alias("slice")
    )
    residual = (sf.col("prediction") - sf.col("price")) / sf.col("price")
    quantiles = sf.percentile(residual, sf.array(*map(sf.lit, (0.1, 0.5, 0.9)))).alias("quantiles")
    inside = sf.avg(sf.col("price").between(sf.col("price_low"), sf.col("price_high")).cast("double"))
    width = sf.median((sf.col("price_high") - sf.col("price_low")) / sf.col("prediction"))
    wanted = (*metric_columns("prediction"), quantiles, inside.alias("coverage"), width.alias("width"))
    found: dict[str, list[SliceErrors]] = {name: [] for name in SLICES}
    for group in sliced.groupBy("slice").agg(*wanted).collect():
        tenth, median, ninetieth = group.quantiles
        errors = SliceErrors(
            value=group["slice"].value,
            metrics=metrics_of(group.asDict()),
            tenth=tenth,
            median=median,
            ninetieth=ninetieth,
            coverage=group.coverage,
            width=group.width,
        )
        found[group["slice"].name].append(errors)
    return {name: _shown(errors) for name, errors in found.items()}


def _shown(errors: list[SliceErrors]) -> list[SliceErrors]:
    if any(error.value in _ORDER for error in errors):
        return sorted(errors, key=lambda error: _ORDER.get(error.value, len(_ORDER)))
    enough = [error for error in errors if error.metrics.rows >= LEAST_ROWS]
    return sorted(enough, key=lambda error: (-error.metrics.rows, error.value))[:MOST_VALUES]
