"""The batches that lie in incoming/, told apart by what is in them."""

import hashlib
import re
from collections.abc import Mapping

from pydantic import BaseModel

from usedcars_assets.resources.lake import Lake

INCOMING = "incoming"
BATCH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
COMPLETE = "_SUCCESS"

Checksums = Mapping[str, tuple[int, int, str]]
"""Of each file (batch/name): length, modification time in ms, checksum. Saves asking HDFS again."""


class Batch(BaseModel, frozen=True):
    """A complete batch; two with one fingerprint hold the same files with the same content."""

    name: str
    fingerprint: str
    files: int
    bytes: int
    arrived_at: float  # seconds since the epoch

    @property
    def path(self) -> str:
        """Its folder in the lake."""
        return f"{INCOMING}/{self.name}"


class Incoming(BaseModel):
    """What was seen in incoming/."""

    batches: dict[str, Batch]
    unfinished: list[str]  # being uploaded
    misnamed: list[str]
    checksums: dict[str, tuple[int, int, str]]


def look_at_incoming(lake: Lake, known: Checksums) -> Incoming:
    """Lists incoming/; asks HDFS only for checksums of files that are not in `known` as they are."""
    seen = Incoming(batches={}, unfinished=[], misnamed=[], checksums={})
    for folder in lake.entries(INCOMING):
        name = folder["pathSuffix"]
        if folder["type"] != "directory" or name.startswith((".", "_")):
            continue
        if not BATCH_NAME.fullmatch(name):
            seen.misnamed.append(name)
            continue
        found = look_at_batch(lake, name, known)
        if found is None:
            seen.unfinished.append(name)
        else:
            batch, checksums = found
            seen.batches[name] = batch
            seen.checksums.update(checksums)
    return seen


def look_at_batch(
    lake: Lake, name: str, known: Checksums
) -> tuple[Batch, dict[str, tuple[int, int, str]]] | None:
    """The batch and the checksums of its files; None while it is incomplete or gone."""
    entries = {entry["pathSuffix"]: entry for entry in lake.entries(f"{INCOMING}/{name}")}
    marker = entries.get(COMPLETE)
    if marker is None or any(entry.endswith("._COPYING_") for entry in entries):
        return None
    files = {
        file: entry
        for file, entry in sorted(entries.items())
        if entry["type"] == "file" and not file.startswith((".", "_"))
    }
    checksums: dict[str, tuple[int, int, str]] = {}
    for file, entry in files.items():
        key, length, modified = f"{name}/{file}", entry["length"], entry["modificationTime"]
        before = known.get(key)
        if before is not None and (before[0], before[1]) == (length, modified):
            checksums[key] = (length, modified, before[2])
            continue
        try:
            checksum = lake.checksum(f"{INCOMING}/{key}") if length else "empty"
        except FileNotFoundError:  # replaced or deleted since the listing
            return None
        checksums[key] = (length, modified, checksum)
    digest = hashlib.blake2b(digest_size=16)
    for key, (length, _, checksum) in checksums.items():
        digest.update(f"{key.partition('/')[2]}\0{length}\0{checksum}\n".encode())
    batch = Batch(
        name=name,
        fingerprint=digest.hexdigest(),
        files=len(files),
        bytes=sum(entry["length"] for entry in files.values()),
        arrived_at=marker["modificationTime"] / 1000,
    )
    return batch, checksums
