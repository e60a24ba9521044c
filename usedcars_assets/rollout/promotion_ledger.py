"""The promotion ledger in Dagster's UI."""

from collections import Counter

from dagster import (
    AssetMaterialization,
    DefaultSensorStatus,
    MetadataValue,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from usedcars_assets.failures import explain
from usedcars_assets.metadata import table_markdown
from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.ledger import Entry, entries
from usedcars_assets.rollout.observed import observed_asset
from usedcars_assets.rollout.records import read_records
from usedcars_assets.settings import settings

_NEWEST = 50

promotion_ledger = observed_asset(
    "promotion_ledger",
    "Every registration, rollout, takeover and rollback of a version.",
    {"kafka"},
)


@sensor(
    name="new_ledger_entries",
    minimum_interval_seconds=settings().ledger_interval_seconds,
    default_status=DefaultSensorStatus.RUNNING,
    description="Shows the ledger as the asset promotion_ledger whenever it has new entries.",
)
def new_ledger_entries(context: SensorEvaluationContext, topics: Topics) -> SensorResult:
    """One look at both topics of the ledger."""
    try:
        found = [read_records(topics, topic) for topic in (topics.promotions, topics.takeovers)]
    except Exception as error:
        return SensorResult(skip_reason=explain(error, "reading the ledger")[0], cursor=context.cursor)
    cursor = " ".join(str(records.next_offset) for records in found)
    if cursor == context.cursor:
        return SensorResult(skip_reason="The ledger has no new entry.")
    told = sorted(entries(value for records in found for value in records.values), key=lambda entry: entry.at)
    if not told:
        return SensorResult(skip_reason="The ledger is empty.", cursor=cursor)
    return SensorResult(asset_events=[_materialization(told)], cursor=cursor)


def _materialization(told: list[Entry]) -> AssetMaterialization:
    newest = list(reversed(told[-_NEWEST:]))
    counts = Counter(f"{entry.kind}s_{entry.outcome}" for entry in told)
    return AssetMaterialization(
        promotion_ledger.key,
        description=f"{newest[0].kind} of version {newest[0].version}: {newest[0].outcome}",
        metadata={
            "newest": MetadataValue.md(table_markdown([_row(entry) for entry in newest])),
            "entries": len(told),
            **counts,
        },
    )


def _row(entry: Entry) -> dict[str, str]:
    return {
        "time": entry.at,
        "what": entry.kind,
        "outcome": entry.outcome,
        "version": entry.version,
        "former": entry.former or "",
        "seconds": "" if entry.seconds is None else f"{entry.seconds:.1f}",
        "reason": entry.reason,
        "by": entry.run_id[:20],
    }
