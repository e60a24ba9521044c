"""Batches of raw listings as typed, checked rows; what was rejected, with the reason."""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetOut,
    BackfillPolicy,
    Failure,
    MetadataValue,
    Output,
    TableRecord,
    multi_asset,
)

from usedcars_assets.failures import OUTAGE_RETRIES, clear_failures
from usedcars_assets.ingestion.batches import BATCH_AT_FAULT_TAG, BATCHES, OWNERS, raw_listings
from usedcars_assets.ingestion.checks import BATCH_CHECKS, CLEANED, as_cleaned_batch, check_batches, faults
from usedcars_assets.ingestion.claims import BatchVersion
from usedcars_assets.ingestion.incoming import Batch, look_at_batch
from usedcars_assets.ingestion.quarantine import put_in_quarantine, release_from_quarantine
from usedcars_assets.metadata import sample_rows, table_markdown
from usedcars_assets.references import CleanedBatch, ColumnFacts
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.references import reference_path
from usedcars_assets.resources.spark import SharedSpark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from usedcars_assets.pipeline.cleaning import CleanedBatch as CleanedTables

CODE_VERSION = "2"
_SAMPLE_COLUMNS = (
    *("listing_id", "make_name", "model_name", "trim_name", "year", "mileage_miles", "horsepower"),
    *("body_type", "city", "price_usd"),
)


class _BatchProblemError(Exception):
    """A batch can't be cleaned, and the others can; `quarantine` if its content is at fault."""

    def __init__(self, sentence: str, quarantine: BatchVersion | None = None) -> None:
        super().__init__(sentence)
        self.quarantine = quarantine


@multi_asset(
    name="cleaned_listings",
    outs={
        "cleaned_listings": AssetOut(
            description="Listings with typed, unit-free columns, one row a listing, for each batch.",
            group_name="ingestion",
            owners=OWNERS,
            tags={"layer": "cleaned"},
            kinds={"spark", "parquet", "hdfs"},
            code_version=CODE_VERSION,
        ),
        "rejected_listings": AssetOut(
            description="Raw rows that are no possible listing, each with the reason, for each batch.",
            group_name="ingestion",
            owners=OWNERS,
            tags={"layer": "cleaned"},
            kinds={"spark", "parquet", "hdfs"},
            code_version=CODE_VERSION,
        ),
    },
    deps=[raw_listings],
    partitions_def=BATCHES,
    backfill_policy=BackfillPolicy.single_run(),
    retry_policy=OUTAGE_RETRIES,
    check_specs=BATCH_CHECKS,
)
def cleaned_listings(
    context: AssetExecutionContext, spark: SharedSpark, lake: Lake
) -> Iterator[Output[Any] | AssetCheckResult]:
    """Cleans the batches of this run; a bad one is set aside and does not keep the others from it."""
    cleaned: dict[str, CleanedBatch] = {}
    problems: list[str] = []
    with clear_failures("cleaning batches"):
        for batch in context.partition_keys:
            try:
                cleaned[batch] = _clean_batch(context, spark, lake, batch)
            except _BatchProblemError as problem:
                problems.append(str(problem))
                if problem.quarantine is not None:
                    put_in_quarantine(lake, problem.quarantine, str(problem))
                    lake.delete(reference_path(CLEANED, batch))
        found = faults(cleaned)
        yield from check_batches(lake, cleaned, found)
        problems += _set_aside_what_fails(lake, cleaned, found)
        if problems:
            context.instance.add_run_tags(context.run.run_id, {BATCH_AT_FAULT_TAG: "true"})
            rest = f" The other {len(cleaned)} are cleaned; the next training takes them." if cleaned else ""
            raise Failure(" ".join(problems) + rest, allow_retries=False)
    for batch, reference in cleaned.items():
        for name, metadata in (
            ("cleaned_listings", _cleaned_metadata(lake, reference)),
            ("rejected_listings", _rejected_metadata(lake, reference)),
        ):
            context.add_asset_metadata(metadata, asset_key=name, partition_key=batch)
    yield Output(cleaned, "cleaned_listings")
    yield Output(cleaned, "rejected_listings")


def _set_aside_what_fails(
    lake: Lake, cleaned: dict[str, CleanedBatch], found: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Takes the batches that a blocking check refuses out of `cleaned`; a sentence for each."""
    failed: dict[str, list[str]] = {}
    for check, of_batches in found.items():
        for batch, fault in of_batches.items():
            failed.setdefault(batch, []).append(f"{check} ({fault})")
    problems = []
    for batch, of_checks in failed.items():
        version = cleaned.pop(batch).version
        problem = (
            f"Batch {batch} is set aside: its cleaned rows fail {', '.join(of_checks)}; "
            "correct the source and upload the batch again."
        )
        put_in_quarantine(lake, version, problem)
        lake.delete(_manifest(version))
        lake.delete(reference_path(CLEANED, batch))
        problems.append(problem)
    return problems


def _manifest(version: BatchVersion) -> str:
    """The record of a batch that was cleaned with this content."""
    return f"cleaned/{version.batch}/{version.fingerprint}.json"


def _clean_batch(context: AssetExecutionContext, spark: SharedSpark, lake: Lake, name: str) -> CleanedBatch:
    found = look_at_batch(lake, name, known={})
    if found is None:
        raise _BatchProblemError(
            f"Batch {name} is not complete in incoming/ any more: upload it again, with _SUCCESS last."
        )
    batch = found[0]
    version = BatchVersion(batch=name, fingerprint=batch.fingerprint)
    before = lake.read_json(_manifest(version))
    if before is not None:
        context.log.info(f"Batch {name} was cleaned before with this content: its tables stay.")
        release_from_quarantine(lake, version)
        return as_cleaned_batch(before)
    try:
        with spark.step(context) as session:
            reference = _clean(session, lake, batch, version)
    except Exception as error:
        from usedcars_assets.pipeline.errors import BadBatchError

        if look_at_batch(lake, name, known={}) != found:
            raise _BatchProblemError(_disturbed(name)) from error
        if isinstance(error, BadBatchError):
            raise _BatchProblemError(f"Batch {name} is set aside: {error}", quarantine=version) from error
        raise
    if look_at_batch(lake, name, known={}) != found:
        raise _BatchProblemError(_disturbed(name))
    lake.write_json(_manifest(version), reference.model_dump(mode="json"))
    release_from_quarantine(lake, version)
    context.log.info(
        f"Batch {name}: {reference.read} rows = {reference.cleaned} cleaned + {reference.rejected} rejected "
        f"+ {reference.duplicates} duplicates, in {reference.seconds:.1f} s."
    )
    return reference


def _disturbed(name: str) -> str:
    return f"Batch {name} was changed or removed while it was read: it is taken anew once it is complete."


def _clean(session: "SparkSession", lake: Lake, batch: Batch, version: BatchVersion) -> CleanedBatch:
    from usedcars_assets.pipeline.cleaning import clean_listings
    from usedcars_assets.pipeline.raw_listings import read_raw_listings
    from usedcars_assets.pipeline.tables import read_table, write_table

    started = time.monotonic()
    paths = {
        table: f"{table}/{batch.name}/{batch.fingerprint}" for table in ("cleaned", "rejected", "duplicates")
    }
    with clean_listings(read_raw_listings(session, lake.uri(batch.path))) as tables:
        counts = tables.counts
        # Without its record a table is what an interrupted attempt left.
        for name, path in paths.items():
            write_table(getattr(tables, name), lake.uri(path), overwrite=True)
        rejected_sample = _rejected_sample(tables)
    cleaned = read_table(session, lake.uri(paths["cleaned"]))
    return CleanedBatch(
        version=version,
        arrived_at=batch.arrived_at,
        cleaned_path=paths["cleaned"],
        rejected_path=paths["rejected"],
        duplicates_path=paths["duplicates"],
        read=counts.read,
        cleaned=counts.cleaned,
        rejected=counts.rejected,
        duplicates=counts.duplicates,
        rejected_by_reason=dict(counts.rejected_by_reason),
        columns=_column_facts(cleaned),
        sample=sample_rows(cleaned.select(*_SAMPLE_COLUMNS)),
        rejected_sample=rejected_sample,
        seconds=time.monotonic() - started,
    )


def _rejected_sample(tables: "CleanedTables") -> tuple[dict[str, str], ...]:
    columns = ("reason", "listing_id", "make_name", "model_name", "year", "mileage", "price")
    return sample_rows(tables.rejected.select(*columns))


def _column_facts(cleaned: "DataFrame") -> dict[str, ColumnFacts]:
    """One pass over the table as it was stored."""
    from pyspark.sql import functions as F  # noqa: N812
    from pyspark.sql.types import NumericType

    numbers = [field.name for field in cleaned.schema if isinstance(field.dataType, NumericType)]
    (row,) = cleaned.select(
        *(F.count_if(F.col(name).isNull()).alias(f"{name} nulls") for name in cleaned.columns),
        *(F.min(name).cast("double").alias(f"{name} minimum") for name in numbers),
        *(F.max(name).cast("double").alias(f"{name} maximum") for name in numbers),
    ).collect()
    values = row.asDict()
    return {
        field.name: ColumnFacts(
            type=field.dataType.simpleString(),
            nulls=values[f"{field.name} nulls"],
            minimum=values.get(f"{field.name} minimum"),
            maximum=values.get(f"{field.name} maximum"),
        )
        for field in cleaned.schema
    }


def _cleaned_metadata(lake: Lake, batch: CleanedBatch) -> dict[str, Any]:
    return {
        "path": MetadataValue.path(lake.uri(batch.cleaned_path)),
        "fingerprint": batch.version.fingerprint,
        "dagster/row_count": batch.cleaned,
        "rows_read": batch.read,
        "rejected": batch.rejected,
        "duplicates": batch.duplicates,
        "seconds": batch.seconds,
        "sample": MetadataValue.md(table_markdown(batch.sample)),
    }


def _rejected_metadata(lake: Lake, batch: CleanedBatch) -> dict[str, Any]:
    records = [TableRecord({"reason": r, "rows": n}) for r, n in batch.rejected_by_reason.items()]
    return {
        "path": MetadataValue.path(lake.uri(batch.rejected_path)),
        "dagster/row_count": batch.rejected,
        "seconds": batch.seconds,
        "by_reason": MetadataValue.table(records) if records else "none was rejected",
        "sample": MetadataValue.md(table_markdown(batch.rejected_sample)),
    }
