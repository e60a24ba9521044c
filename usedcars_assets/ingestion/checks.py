"""What must hold of cleaned batches, judged from the facts that cleaning gathered."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, AssetKey, MetadataValue

from usedcars_assets.references import REFERENCE, CleanedBatch
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.references import reference_path

CLEANED = AssetKey("cleaned_listings")
USUAL_VOLUME = (0.2, 5.0)
NEVER_NULL = ("listing_id", "make_name", "model_name", "year", "price_usd")
_USUAL_BATCHES = 20

BATCH_CHECKS = [
    AssetCheckSpec(
        "rows_accounted_for",
        asset=CLEANED,
        blocking=True,
        description="Rows read = cleaned + rejected + duplicates.",
    ),
    AssetCheckSpec("schema", asset=CLEANED, blocking=True, description="All columns, with their types."),
    AssetCheckSpec(
        "no_nulls", asset=CLEANED, blocking=True, description=f"No row without {', '.join(NEVER_NULL)}."
    ),
    AssetCheckSpec("ranges", asset=CLEANED, blocking=True, description="Numbers are plausible."),
    AssetCheckSpec(
        "volume",
        asset=CLEANED,
        description=f"{USUAL_VOLUME[0]} to {USUAL_VOLUME[1]} times the rows of a usual batch.",
    ),
]


def as_cleaned_batch(content: Any) -> CleanedBatch:
    """The record of a cleaned batch from its JSON."""
    reference = REFERENCE.validate_python(content)
    assert isinstance(reference, CleanedBatch)  # noqa: S101  narrows the type of what this module wrote
    return reference


def expected_columns() -> dict[str, str]:
    """The columns of a cleaned table, with their Spark types."""
    from usedcars_assets.pipeline.cleaning import FLAGS, NUMBERS, TEXTS

    return {
        **dict.fromkeys(("listing_id", "vin", *TEXTS), "string"),
        **{number.column: number.type.lower() for number in NUMBERS},
        **dict.fromkeys(FLAGS, "boolean"),
        "price_usd": "double",
        "listed_date": "date",
    }


def plausible_ranges() -> dict[str, tuple[float, float]]:
    """Smallest and largest plausible value of each number."""
    from usedcars_assets.pipeline.cleaning import LEAST_PRICE_USD, MOST_PRICE_USD, NUMBERS

    ranges: dict[str, tuple[float, float]] = {number.column: (number.low, number.high) for number in NUMBERS}
    return ranges | {"price_usd": (LEAST_PRICE_USD, MOST_PRICE_USD)}


def faults(cleaned: Mapping[str, CleanedBatch]) -> dict[str, dict[str, Any]]:
    """What the blocking checks find, by check and batch; a batch with a fault must not be learnt from."""
    expected, ranges = expected_columns(), plausible_ranges()
    found: dict[str, dict[str, Any]] = {
        "rows_accounted_for": {
            name: batch.read - batch.cleaned - batch.rejected - batch.duplicates
            for name, batch in cleaned.items()
        },
        "schema": {
            name: {
                column: f"{batch.columns[column].type if column in batch.columns else 'missing'}"
                for column in sorted({*expected, *batch.columns})
                if column not in batch.columns or expected.get(column) != batch.columns[column].type
            }
            for name, batch in cleaned.items()
        },
        "no_nulls": {
            name: {
                column: batch.columns[column].nulls
                for column in NEVER_NULL
                if column in batch.columns and batch.columns[column].nulls
            }
            for name, batch in cleaned.items()
        },
        "ranges": {
            name: {
                column: [facts.minimum, facts.maximum]
                for column, facts in batch.columns.items()
                if column in ranges and facts.minimum is not None and facts.maximum is not None
                if facts.minimum < ranges[column][0] or facts.maximum > ranges[column][1]
            }
            for name, batch in cleaned.items()
        },
    }
    return {check: {name: fault for name, fault in of.items() if fault} for check, of in found.items()}


def check_batches(
    lake: Lake, cleaned: Mapping[str, CleanedBatch], found: Mapping[str, Mapping[str, Any]]
) -> Iterator[AssetCheckResult]:
    """The results of BATCH_CHECKS, from what was found out while the batches were cleaned, and its faults."""
    what = {
        "rows_accounted_for": "rows unaccounted for",
        "schema": "columns",
        "no_nulls": "rows without a value",
        "ranges": "out of range",
    }
    for check, of_batches in found.items():
        yield _result(check, of_batches, what[check])

    usual = _usual_rows(lake, exclude=set(cleaned))
    unusual = {
        name: batch.cleaned
        for name, batch in cleaned.items()
        if usual and not USUAL_VOLUME[0] * usual <= batch.cleaned <= USUAL_VOLUME[1] * usual
    }
    yield _result(
        "volume", unusual, "rows", AssetCheckSeverity.WARN, {"usual_rows": usual or "no other batch"}
    )


def _result(
    name: str,
    found: Mapping[str, Any],
    what: str,
    severity: AssetCheckSeverity = AssetCheckSeverity.ERROR,
    metadata: Mapping[str, Any] | None = None,
) -> AssetCheckResult:
    return AssetCheckResult(
        passed=not found,
        check_name=name,
        asset_key=CLEANED,
        severity=severity,
        metadata={what: MetadataValue.json(dict(found)), **(metadata or {})},
    )


def _usual_rows(lake: Lake, exclude: set[str]) -> float | None:
    folder = reference_path(CLEANED).removesuffix(".json")
    others = [
        as_cleaned_batch(lake.read_json(f"{folder}/{entry['pathSuffix']}")).cleaned
        for entry in lake.entries(folder)[-_USUAL_BATCHES:]
        if entry["pathSuffix"].removesuffix(".json") not in exclude
        and not entry["pathSuffix"].startswith(".")
    ]
    return median(others) if others else None
