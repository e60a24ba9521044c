"""Which batches the next training takes: a decision over what is in the lake and what Dagster runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from usedcars_assets.ingestion.claims import BatchVersion, Claim
from usedcars_assets.ingestion.trained import TrainedBatches


class RunState(Enum):
    """What became of the run that a claim was made for."""

    ABSENT = "absent"
    UNFINISHED = "unfinished"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    BATCH_AT_FAULT = "batch at fault"  # failed as one of its batches was bad, changed or went away


class Standing(Enum):
    """What a complete batch waits for."""

    TRAINED = "trained"
    QUARANTINED = "quarantined"
    NEW = "new"  # never tried, or to be tried again without a new batch
    STARTING = "starting"  # claimed, its run not there yet
    TRAINING = "training"
    FAILED = "failed"  # its training failed for other reasons: it goes along with the next new batch


@dataclass(frozen=True)
class Lookups:
    """What deciding needs to know, asked only where it matters."""

    latest_claim: Callable[[BatchVersion], Claim | None]
    quarantined: Callable[[BatchVersion], bool]
    run_state: Callable[[str], RunState]


def standing(
    version: BatchVersion,
    trained: TrainedBatches | None,
    lookups: Lookups,
    now: float,
    claim_timeout: float,
) -> tuple[Standing, int]:
    """Where a batch version stands, and the number of the next attempt to train it."""
    if trained is not None and trained.fingerprints.get(version.batch) == version.fingerprint:
        return Standing.TRAINED, 0
    if lookups.quarantined(version):
        return Standing.QUARANTINED, 0
    claim = lookups.latest_claim(version)
    if claim is None:
        return Standing.NEW, 1
    attempt = claim.attempt + 1
    state = lookups.run_state(claim.run_key) if claim.run_key else RunState.ABSENT
    if state is RunState.UNFINISHED:
        return Standing.TRAINING, attempt
    if state is RunState.ABSENT:
        return (Standing.STARTING if now - claim.claimed_at < claim_timeout else Standing.NEW), attempt
    if state is RunState.SUCCEEDED:
        # A later training may have learnt other content of this batch, which now is as it was before.
        superseded = trained is not None and trained.trained_at > claim.claimed_at
        return (Standing.NEW if superseded else Standing.TRAINED), attempt
    return (Standing.NEW if state is RunState.BATCH_AT_FAULT else Standing.FAILED), attempt


def next_training(standings: Mapping[BatchVersion, tuple[Standing, int]]) -> dict[BatchVersion, int]:
    """The batch versions to train together, with their attempts; none while nothing is new."""
    if not any(state is Standing.NEW for state, _ in standings.values()):
        return {}
    return {
        version: attempt
        for version, (state, attempt) in standings.items()
        if state in (Standing.NEW, Standing.FAILED)
    }


def partition_changes(
    existing: tuple[str, ...], wanted: tuple[str, ...], last: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """Which partitions to delete and then to add, so that `wanted` exist and `last` come last, in order.

    A run covers a range of partitions, so those that it takes must follow each other.
    """
    kept = [key for key in existing if key in wanted and key not in last]
    target = [*kept, *(key for key in wanted if key not in kept and key not in last), *last]
    remaining = [key for key in existing if key in target]
    same = 0
    while same < len(remaining) and remaining[same] == target[same]:
        same += 1
    return [key for key in existing if key not in target] + remaining[same:], target[same:]
