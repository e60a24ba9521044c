"""The live metrics told further: an observation a window in Dagster, metrics of the version's MLflow run."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetObservation,
    DefaultSensorStatus,
    MetadataValue,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)
from pydantic import BaseModel, ValidationError

from usedcars_assets.failures import explain
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.observed import observed_asset
from usedcars_assets.rollout.records import read_records
from usedcars_assets.settings import settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALL_VERSIONS = "all"
_MOST_RECORDS = 20_000  # of the newest, when there is much to catch up with
_MOST_WINDOWS = 200  # in one look, which has a minute
Figures = dict[str, Any]

live_metrics = observed_asset(
    "live_metrics",
    "How far the answered prices are from those set later, by window and model version.",
    {"kafka", "mlflow"},
)


class Cursor(BaseModel):
    """Where the next look goes on: windows are told once, when they are over."""

    next_offset: int = 0
    open: dict[str, Figures] = {}  # the newest figures of windows not told yet, by version and window
    told_until: dict[str, str] = {}  # by version, the end of its last window that was told


@sensor(
    name="live_metrics_windows",
    minimum_interval_seconds=settings().live_metrics_interval_seconds,
    default_status=DefaultSensorStatus.RUNNING,
    description="Tells each window of the live metrics that is over, here and in the versions' MLflow runs.",
)
def live_metrics_windows(
    context: SensorEvaluationContext, topics: Topics, mlflow: MlflowTracking
) -> SensorResult:
    """One look at the topic of the live metrics."""
    before = _read_cursor(context.cursor)
    try:
        records = read_records(topics, topics.live_metrics, before.next_offset, _MOST_RECORDS)
        over_before = datetime.now(UTC) - timedelta(seconds=settings().live_metrics_settled_seconds)
        windows, following = finished_windows(before, records.values, over_before)
        following = following.model_copy(update={"next_offset": records.next_offset})
        if windows:
            log_to_runs(mlflow.client(), mlflow.registered_model, windows)
    except Exception as error:
        # The cursor stays: the same windows are told next time; MLflow keeps a metric logged twice once.
        return SensorResult(skip_reason=explain(error, "telling the live metrics")[0], cursor=context.cursor)
    if not windows:
        return SensorResult(
            skip_reason="No window of the live metrics is over.", cursor=following.model_dump_json()
        )
    return SensorResult(asset_events=observations(windows), cursor=following.model_dump_json())


def finished_windows(
    cursor: Cursor, values: Iterable[bytes], over_before: datetime
) -> tuple[list[Figures], Cursor]:
    """The windows that ended before a time and were not told yet, in order of time; and what remains.

    Of a window published several times the last figures count; what comes after it was told does not.
    """
    open_windows = dict(cursor.open)
    for value in values:
        figures = _figures(value)
        if figures is not None:
            version, end = figures["model_version"], figures["window_end"]
            if end > cursor.told_until.get(version, ""):
                open_windows[f"{version} {figures['window_start']}"] = figures
    over = sorted(
        (figures for figures in open_windows.values() if _time(figures["window_end"]) <= over_before),
        key=lambda figures: (figures["window_end"], figures["model_version"]),
    )[:_MOST_WINDOWS]
    told = {id(figures) for figures in over}
    told_until = cursor.told_until | {figures["model_version"]: figures["window_end"] for figures in over}
    remaining = {key: figures for key, figures in open_windows.items() if id(figures) not in told}
    return over, Cursor(next_offset=cursor.next_offset, open=remaining, told_until=told_until)


def observations(windows: list[Figures]) -> list[AssetObservation]:
    """One a window: `mae` over all versions and `mae of version 7`, so that each is a line of its own."""
    by_end: dict[str, dict[str, float]] = {}
    for figures in windows:
        version = figures["model_version"]
        suffix = "" if version == ALL_VERSIONS else f" of version {version}"
        line = by_end.setdefault(figures["window_end"], {})
        line.update({f"{name}{suffix}": value for name, value in _numbers(figures).items()})
    return [
        AssetObservation(
            live_metrics.key,
            description=f"Prices set in the window that ended at {end}.",
            metadata={"window_end": MetadataValue.timestamp(_time(end)), **line},
        )
        for end, line in by_end.items()
    ]


def log_to_runs(client: "MlflowClient", model: str, windows: list[Figures]) -> None:
    """Logs live_mae and the like to the run that each version was registered from, at the window's end.

    The run stays as ended as it is. A version without a run, or whose run is deleted, is passed over.
    """
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    by_version: dict[str, list[Metric]] = {}
    for figures in windows:
        if figures["model_version"] != ALL_VERSIONS:
            end = int(_time(figures["window_end"]).timestamp())
            by_version.setdefault(figures["model_version"], []).extend(
                Metric(f"live_{name}", value, end * 1000, end) for name, value in _numbers(figures).items()
            )
    for version, metrics in by_version.items():
        try:
            run_id = client.get_model_version(model, version).run_id
            if run_id is None:
                continue
            for start in range(0, len(metrics), 1000):  # as many as a request may carry
                client.log_batch(run_id, metrics=metrics[start : start + 1000])
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _figures(value: bytes) -> Figures | None:
    try:
        figures: Figures = json.loads(value)
        for name in ("window_start", "window_end"):
            _time(figures[name])
        return {**figures, "model_version": str(figures["model_version"])}
    except (ValueError, TypeError, KeyError):
        return None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _read_cursor(text: str | None) -> Cursor:
    try:
        return Cursor.model_validate_json(text) if text else Cursor()
    except ValidationError:  # written by another version: windows may be told again
        return Cursor()
