"""Batches that can't be learnt from: set aside with the reason until they are uploaded anew."""

from usedcars_assets.ingestion.claims import BatchVersion
from usedcars_assets.resources.lake import Lake


def put_in_quarantine(lake: Lake, version: BatchVersion, reason: str) -> None:
    """Sets this content of the batch aside; other content under the same name is another matter."""
    lake.write_json(_path(version), {**version.model_dump(), "reason": reason})


def quarantine_reason(lake: Lake, version: BatchVersion) -> str | None:
    """Why the batch version is in quarantine; None if it is not."""
    marker = lake.read_json(_path(version))
    return None if marker is None else str(marker["reason"])


def release_from_quarantine(lake: Lake, version: BatchVersion) -> None:
    """Takes the batch version out, as after a cleaning by hand that went well."""
    lake.delete(_path(version))


def _path(version: BatchVersion) -> str:
    return f"quarantine/{version.batch}/{version.fingerprint}.json"
