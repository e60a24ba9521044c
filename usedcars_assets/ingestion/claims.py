"""Who trains a batch: of any number of ticks at the same time, one. See docs/decisions/011."""

import hashlib
from collections.abc import Mapping

from pydantic import BaseModel

from usedcars_assets.resources.lake import Lake

CLAIM_TAG = "usedcars/claim"
"""Run tag with the key of the claims that the run was started for."""


class BatchVersion(BaseModel, frozen=True):
    """A batch with a certain content."""

    batch: str
    fingerprint: str


class Claim(BaseModel, frozen=True):
    """A batch version is taken by the run with this key, which takes `together` all of these."""

    attempt: int
    run_key: str
    claimed_at: float  # seconds since the epoch
    together: tuple[BatchVersion, ...]


def latest_claim(lake: Lake, version: BatchVersion) -> Claim | None:
    """The last attempt to train this batch version."""
    folder = _folder(version)
    attempts = {
        int(entry["pathSuffix"].removesuffix(".json")): entry
        for entry in lake.entries(folder)
        if entry["pathSuffix"].removesuffix(".json").isdigit()
    }
    if not attempts:
        return None
    attempt = max(attempts)
    content = lake.read_json(f"{folder}/{attempt}.json")
    if content is None:  # its writer died between creating and filling it, or is about to fill it
        claimed_at = attempts[attempt]["modificationTime"] / 1000
        return Claim(attempt=attempt, run_key="", claimed_at=claimed_at, together=(version,))
    return Claim.model_validate(content)


def claim(lake: Lake, attempts: Mapping[BatchVersion, int], now: float) -> str | None:
    """Claims all of these for one run and returns its key; None if another tick was faster with any."""
    ordered = sorted(attempts, key=lambda version: (version.batch, version.fingerprint))
    run_key = hashlib.blake2b(
        "\n".join(f"{v.batch}\0{v.fingerprint}\0{attempts[v]}" for v in ordered).encode(), digest_size=16
    ).hexdigest()
    created: list[str] = []
    for version in ordered:
        path = f"{_folder(version)}/{attempts[version]}.json"
        content = Claim(
            attempt=attempts[version], run_key=run_key, claimed_at=now, together=tuple(ordered)
        ).model_dump()
        if not lake.create_json(path, content):
            for own in created:
                lake.delete(own)
            return None
        created.append(path)
    return run_key


def _folder(version: BatchVersion) -> str:
    return f"claims/{version.batch}/{version.fingerprint}"
