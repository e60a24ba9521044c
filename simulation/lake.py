"""Batches into HDFS, whole or not at all.

A batch is uploaded to a folder whose name begins with a dot, renamed, and marked with `_SUCCESS` last.
WebHDFS: https://hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-hdfs/WebHDFS.html
"""

import functools
import re
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import fsspec
import requests
import structlog
import tenacity

from simulation.errors import SimulationError
from simulation.settings import SimulationSettings

BATCH_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FILE: Final = "listings.csv"
_MARKER: Final = "_SUCCESS"
_BLOCK: Final = 16 * 2**20  # bytes sent in one append
_log = structlog.get_logger(__name__)
# What a NameNode or DataNode that is starting, stopping or gone makes of a call.
_PASSING: Final = (requests.ConnectionError, requests.Timeout, ConnectionError)
_STARTING: Final = ("SafeModeException", "safe mode", "StandbyException", "could only be written to 0 of")


@dataclass(frozen=True)
class Lake:
    """The incoming folder of an HDFS, through fsspec."""

    files: Any
    incoming: str
    url: str
    replication: int
    attempts: int


def open_lake(settings: SimulationSettings) -> Lake:
    """The lake that the settings name; connects with the first call only."""
    address = urlsplit(settings.webhdfs_url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise SimulationError(
            f"USEDCARS_WEBHDFS_URL is {settings.webhdfs_url!r}, which is no http address: "
            "set it to one such as http://127.0.0.1:9870."
        )
    files = fsspec.filesystem(
        "webhdfs",
        host=address.hostname,
        port=address.port or 9870,
        user=settings.hdfs_user,
        use_https=address.scheme == "https",
        skip_instance_cache=True,
    )
    # fsspec sets no time limit, so that a frozen NameNode would hold a call for ever.
    files.session.request = functools.partial(files.session.request, timeout=settings.connection_timeout)
    return Lake(
        files,
        settings.incoming_path,
        settings.webhdfs_url,
        settings.hdfs_replication,
        settings.connection_attempts,
    )


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code >= 500
    return isinstance(error, _PASSING) or any(sign in str(error) for sign in _STARTING)


def _with_retries(lake: Lake, call: Callable[[], None]) -> None:
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_passing),
        stop=tenacity.stop_after_attempt(lake.attempts),
        wait=tenacity.wait_exponential(multiplier=0.5, max=8),
        before_sleep=lambda state: _log.warning(
            "HDFS does not answer, trying again", url=lake.url, attempt=state.attempt_number
        ),
        reraise=True,
    )
    try:
        retrying(call)
    except PermissionError as error:
        raise SimulationError(
            f"HDFS at {lake.url} refuses to write below {lake.incoming} ({error}): "
            "give that folder to USEDCARS_HDFS_USER, or set another user."
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        if not _is_passing(error):
            raise
        raise SimulationError(
            f"HDFS does not answer at {lake.url}: start it (usedcars-platform up namenode datanode), "
            "or set USEDCARS_WEBHDFS_URL to where it runs."
        ) from error


def _rename(lake: Lake, source: str, target: str) -> None:
    """Rename onto a free name: HDFS moves into an existing folder, and answers a refusal with `false`."""
    if lake.files.exists(target):
        raise SimulationError(
            f"HDFS folder {target} appeared while it was written: see what else writes that batch."
        )
    answer = lake.files._call("RENAME", method="put", path=source, destination=target).json()
    if answer.get("boolean") is not True:
        raise SimulationError(
            f"HDFS refused to rename {source} to {target}: check that {source} is still there."
        )


def _children(lake: Lake, prefix: str) -> list[str]:
    if not lake.files.exists(lake.incoming):
        return []
    return [
        path
        for path in lake.files.ls(lake.incoming, detail=False)
        if path.startswith(f"{lake.incoming}/{prefix}")
    ]


def _remove(lake: Lake, prefix: str) -> None:
    for path in _children(lake, prefix):
        lake.files.rm(path, recursive=True)


def _write_file(lake: Lake, source: Path, target: str) -> None:
    with (
        source.open("rb") as content,
        lake.files.open(target, "wb", block_size=_BLOCK, replication=lake.replication) as file,
    ):
        shutil.copyfileobj(content, file, _BLOCK)
    length, written = source.stat().st_size, lake.files.info(target)["size"]
    if written != length:
        raise SimulationError(
            f"HDFS holds {written} of the {length} bytes of {source}: let nothing write it, upload it again."
        )


def _publish(lake: Lake, staging: str, target: str, displaced: str) -> None:
    """Put the staged batch in its place; may be called again after a lost answer."""
    if lake.files.exists(staging):
        if lake.files.exists(target):
            _rename(lake, target, displaced)
        _rename(lake, staging, target)
    _mark_complete(lake, target)


def _mark_complete(lake: Lake, folder: str) -> None:
    lake.files.open(f"{folder}/{_MARKER}", "wb", replication=lake.replication).close()


def batch_is_complete(lake: Lake, batch: str) -> bool:
    """Whether HDFS holds the batch whole."""
    found: list[bool] = []
    _with_retries(lake, lambda: found.append(bool(lake.files.exists(f"{lake.incoming}/{batch}/{_MARKER}"))))
    return found[-1]


def upload_batch(lake: Lake, source: Path, batch: str, *, replace: bool = False) -> str:
    """Upload a CSV file as the batch and return its folder in HDFS.

    A complete batch of that name is replaced only on demand; what an interrupted upload left is cleared.
    """
    if not BATCH_NAME.fullmatch(batch):
        raise SimulationError(
            f"{batch!r} is no name of a batch: use up to 100 letters, digits, dots, dashes and underscores, "
            "the first a letter or digit."
        )
    if not source.is_file():
        raise SimulationError(f"There is no file {source} to upload: generate it first.")
    target, attempt = f"{lake.incoming}/{batch}", uuid.uuid4().hex[:12]
    staging = f"{lake.incoming}/.{batch}.uploading-{attempt}"
    displaced = f"{lake.incoming}/.{batch}.replaced-{attempt}"

    def stage() -> None:
        # Without its marker the folder is what an upload left that died behind its rename.
        if not replace and lake.files.exists(f"{target}/{_MARKER}"):
            raise SimulationError(
                f"Batch {batch} is in HDFS already ({target}): pass --replace, or another name."
            )
        _remove(lake, f".{batch}.uploading-")
        lake.files.makedirs(staging, exist_ok=True)
        _write_file(lake, source, f"{staging}/{_FILE}")

    _with_retries(lake, stage)
    _with_retries(lake, lambda: _publish(lake, staging, target, displaced))
    _with_retries(lake, lambda: _remove(lake, f".{batch}.replaced-"))
    _log.info("batch uploaded", batch=batch, folder=target, bytes=source.stat().st_size)
    return target
