"""The input drift in Dagster's UI: an observation a look, so that the index of each feature is plotted."""

import json
from typing import Any

from dagster import (
    AssetObservation,
    DefaultSensorStatus,
    MetadataValue,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from usedcars_assets.failures import explain
from usedcars_assets.metadata import table_markdown
from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.observed import observed_asset
from usedcars_assets.rollout.records import read_records
from usedcars_assets.settings import settings

_MOST_LOOKS = 60  # in one look at the topic, of the newest
_SHOWN = 10

input_drift = observed_asset(
    "input_drift",
    "How far the live requests are from the training rows of the version in service, by feature.",
    {"kafka"},
)


@sensor(
    name="input_drift_looks",
    minimum_interval_seconds=settings().live_metrics_interval_seconds,
    default_status=DefaultSensorStatus.RUNNING,
    description="Shows what live metrics have found of the input drift as the asset input_drift.",
)
def input_drift_looks(context: SensorEvaluationContext, topics: Topics) -> SensorResult:
    """One look at the topic of the input drift."""
    try:
        start = int(context.cursor) if context.cursor else 0
        records = read_records(topics, topics.input_drift, start, _MOST_LOOKS)
    except Exception as error:
        return SensorResult(skip_reason=explain(error, "reading the input drift")[0], cursor=context.cursor)
    looks = [look for value in records.values if (look := _look(value)) is not None]
    cursor = str(records.next_offset)
    if not looks:
        return SensorResult(skip_reason="Nothing new is known of the input drift.", cursor=cursor)
    return SensorResult(asset_events=[_observation(look) for look in looks], cursor=cursor)


def _look(value: bytes) -> dict[str, Any] | None:
    """A record that tells something: of enough requests, and readable."""
    try:
        look: dict[str, Any] = json.loads(value)
        told = look["level"] != "unknown" and bool(look["features"])
        return look if told else None
    except (ValueError, TypeError, KeyError):
        return None


def _observation(look: dict[str, Any]) -> AssetObservation:
    worst = look["features"][0]
    rows = [
        {
            "feature": found["name"],
            "index": f"{found['index']:.3f}",
            "moved most": found["bin"],
            "when trained": f"{found['trained_share']:.1%}",
            "now": f"{found['live_share']:.1%}",
        }
        for found in look["features"][:_SHOWN]
    ]
    return AssetObservation(
        input_drift.key,
        description=f"{look['level']}: {worst['name']} has moved most, by {worst['index']:.3f}.",
        metadata={
            "level": str(look["level"]),
            "model_version": str(look["model_version"]),
            "window_end": str(look["window_end"]),
            "requests": int(look["requests"]),
            "largest_index": float(worst["index"]),
            "moved_most": MetadataValue.md(table_markdown(rows)),
            **{f"index of {found['name']}": float(found["index"]) for found in look["features"]},
        },
    )
