"""The sensor that sees complete batches and starts one training for all that wait."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dagster import (
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    DataVersion,
    DefaultSensorStatus,
    MetadataValue,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from pydantic import BaseModel, ValidationError

from usedcars_assets.executor import HEARTBEAT_TAG
from usedcars_assets.failures import UnavailableError
from usedcars_assets.ingestion.batches import BATCH_AT_FAULT_TAG, BATCHES, TRAINING_TAG, raw_listings
from usedcars_assets.ingestion.claims import CLAIM_TAG, BatchVersion, claim, latest_claim
from usedcars_assets.ingestion.incoming import Batch, Incoming, look_at_incoming
from usedcars_assets.ingestion.pending import (
    Lookups,
    RunState,
    Standing,
    next_training,
    partition_changes,
    standing,
)
from usedcars_assets.ingestion.quarantine import quarantine_reason
from usedcars_assets.ingestion.trained import read_trained
from usedcars_assets.ingestion.under_way import unfinished_training
from usedcars_assets.resources.lake import Lake
from usedcars_assets.settings import settings

_TICKS_OF_SILENCE = 3  # a machine that slept wakes up with old heartbeats: look more than once


class _Cursor(BaseModel):
    """What one tick tells the next: nothing that could not be found out again."""

    checksums: dict[str, tuple[int, int, str]] = {}
    fingerprints: dict[str, str] = {}  # by batch, as reported to Dagster
    silent: dict[str, tuple[str, int]] = {}  # by run: its last heartbeat, ticks that saw just this one


@sensor(
    name="incoming_batches",
    job_name="training",
    minimum_interval_seconds=settings().sensor_interval_seconds,
    default_status=DefaultSensorStatus.RUNNING,
    description="Starts one training for all complete batches in incoming/ that no training has taken yet.",
)
def incoming_batches(context: SensorEvaluationContext, lake: Lake) -> SensorResult:
    """One look at incoming/."""
    cursor = _read_cursor(context.cursor)
    try:
        return _tick(context, lake, cursor)
    except UnavailableError as error:
        return SensorResult(skip_reason=str(error), cursor=context.cursor)


def _tick(context: SensorEvaluationContext, lake: Lake, cursor: _Cursor) -> SensorResult:
    instance, now = context.instance, time.time()
    incoming = look_at_incoming(lake, cursor.checksums)
    events = [_materialization(batch) for batch in _unreported(incoming, cursor)]
    for batch in sorted(set(cursor.fingerprints) - set(incoming.batches)):
        context.log.info(f"Batch {batch} is gone from incoming/: it leaves the training window.")
    for name in incoming.misnamed:
        context.log.warning(f"{name!r} in incoming/ is not the name of a batch: rename it or remove it.")

    existing = tuple(instance.get_dynamic_partitions(str(BATCHES.name)))
    wanted = tuple(sorted(incoming.batches, key=lambda name: (incoming.batches[name].arrived_at, name)))
    silent = _fail_silent_runs(instance, cursor, now)
    following = _Cursor(
        checksums=incoming.checksums,
        fingerprints={name: batch.fingerprint for name, batch in incoming.batches.items()},
        silent=silent,
    ).model_dump_json()

    versions = {
        name: BatchVersion(batch=name, fingerprint=incoming.batches[name].fingerprint) for name in wanted
    }
    standings = _standings(instance, lake, versions.values(), now)
    chosen = next_training(standings)
    waiting = [version.batch for version in chosen]
    if run := unfinished_training(instance):
        # What runs names its batches by a range of partitions: add at the end, move and remove nothing.
        instance.add_dynamic_partitions(str(BATCHES.name), [name for name in wanted if name not in existing])
        reason = f"{run.job_name.capitalize()} {run.run_id[:8]} is under way; {_count(waiting)}."
        return SensorResult(skip_reason=reason, cursor=following, asset_events=events)

    starting = [version.batch for version, (state, _) in standings.items() if state is Standing.STARTING]
    if starting:
        reason = f"A run that claimed {_names(starting)} is about to appear; {_count(waiting)}."
        return SensorResult(skip_reason=reason, cursor=following, asset_events=events)

    run_key = claim(lake, chosen, now) if chosen else None
    taken = tuple(waiting) if run_key else ()
    _arrange_partitions(instance, existing, wanted, taken)
    if run_key is None:
        reason = "Another tick claimed the waiting batches." if chosen else _nothing_new(incoming, standings)
        return SensorResult(skip_reason=reason, cursor=following, asset_events=events)
    context.log.info(f"Training with {_names(taken)}.")
    request = RunRequest(
        run_key=run_key,
        tags={
            TRAINING_TAG: "true",
            CLAIM_TAG: run_key,
            ASSET_PARTITION_RANGE_START_TAG: taken[0],
            ASSET_PARTITION_RANGE_END_TAG: taken[-1],
        },
    )
    return SensorResult(run_requests=[request], cursor=following, asset_events=events)


def _read_cursor(text: str | None) -> _Cursor:
    try:
        return _Cursor.model_validate_json(text) if text else _Cursor()
    except ValidationError:  # written by another version: it only costs asking HDFS again
        return _Cursor()


def _unreported(incoming: Incoming, cursor: _Cursor) -> Iterator[Batch]:
    for name, batch in incoming.batches.items():
        if cursor.fingerprints.get(name) != batch.fingerprint:
            yield batch


def _materialization(batch: Batch) -> AssetMaterialization:
    return AssetMaterialization(
        raw_listings.key,
        partition=batch.name,
        description="Seen complete in incoming/.",
        metadata={
            "path": MetadataValue.path(batch.path),
            "fingerprint": batch.fingerprint,
            "files": batch.files,
            "bytes": batch.bytes,
            "arrived_at": MetadataValue.timestamp(batch.arrived_at),
        },
        tags={DATA_VERSION_TAG: DataVersion(batch.fingerprint).value},
    )


def _standings(
    instance: DagsterInstance, lake: Lake, versions: Iterable[BatchVersion], now: float
) -> dict[BatchVersion, tuple[Standing, int]]:
    lookups = Lookups(
        latest_claim=lambda version: latest_claim(lake, version),
        quarantined=lambda version: quarantine_reason(lake, version) is not None,
        run_state=lambda run_key: _run_state(instance, run_key),
    )
    trained = read_trained(lake)
    timeout = settings().claim_timeout_seconds
    return {version: standing(version, trained, lookups, now, timeout) for version in versions}


def _run_state(instance: DagsterInstance, run_key: str) -> RunState:
    runs = instance.get_runs(RunsFilter(tags={CLAIM_TAG: run_key}))  # with those re-executed by hand
    if not runs:
        return RunState.ABSENT
    if any(not run.is_finished for run in runs):
        return RunState.UNFINISHED
    if any(run.is_success for run in runs):
        return RunState.SUCCEEDED
    if any(BATCH_AT_FAULT_TAG in run.tags for run in runs):
        return RunState.BATCH_AT_FAULT
    return RunState.FAILED


def _fail_silent_runs(instance: DagsterInstance, cursor: _Cursor, now: float) -> dict[str, tuple[str, int]]:
    """Ends trainings whose process is gone without a word, as after a power failure: they block the next."""
    silent: dict[str, tuple[str, int]] = {}
    started = RunsFilter(tags={TRAINING_TAG: "true"}, statuses=[DagsterRunStatus.STARTED])
    for run in instance.get_runs(started):
        heartbeat = run.tags.get(HEARTBEAT_TAG, "")
        if not heartbeat or now - float(heartbeat) < settings().run_silence_seconds:
            continue
        before, ticks = cursor.silent.get(run.run_id, (heartbeat, 0))
        if before == heartbeat and ticks + 1 >= _TICKS_OF_SILENCE:
            minutes = (now - float(heartbeat)) / 60
            instance.report_run_failed(
                run, f"The run's process has given no sign of life for {minutes:.0f} minutes: taken as dead."
            )
        else:
            silent[run.run_id] = (heartbeat, ticks + 1 if before == heartbeat else 1)
    return silent


def _arrange_partitions(
    instance: DagsterInstance, existing: tuple[str, ...], wanted: tuple[str, ...], taken: tuple[str, ...]
) -> None:
    deleted, added = partition_changes(existing, wanted, taken)
    for key in deleted:
        instance.delete_dynamic_partition(str(BATCHES.name), key)
    instance.add_dynamic_partitions(str(BATCHES.name), added)


def _nothing_new(incoming: Incoming, standings: Mapping[BatchVersion, tuple[Standing, int]]) -> str:
    parts = [f"Nothing new among {len(incoming.batches)} complete batches."]
    for state, meaning in (
        (Standing.QUARANTINED, "in quarantine, to be uploaded anew"),
        (Standing.FAILED, "of a failed training, to go along with the next new batch or by hand"),
    ):
        names = [version.batch for version, (found, _) in standings.items() if found is state]
        if names:
            parts.append(f"{_names(names)}: {meaning}.")
    if incoming.unfinished:
        parts.append(f"{_names(incoming.unfinished)}: still being uploaded (no _SUCCESS).")
    return " ".join(parts)


def _count(waiting: list[str]) -> str:
    return "no batch waits" if not waiting else f"{len(waiting)} wait: {_names(waiting)}"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
