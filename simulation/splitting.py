"""A raw file cut into batches to train on and a part to ask prices for.

Records are cut as bytes and passed on unchanged; a quoted field may hold line ends. Memory is bounded.
"""

import csv
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulation.errors import SimulationError
from simulation.listing_format import COLUMNS

_BLOCK: Final = 8 * 2**20
_LONGEST_RECORD: Final = 64 * 2**20
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_HASHES: Final = 2**32


@dataclass(frozen=True)
class Split:
    """Files written, and rows in each by file name."""

    rows: dict[str, int]


def csv_records(path: Path, block: int = _BLOCK) -> Iterator[bytes]:
    """The records of a CSV file with their line ends, the header first; no blank lines."""
    # Quotes inside a field are doubled (RFC 4180): counting all of them tells whether a field is open.
    rest, inside = bytearray(), False
    with path.open("rb") as file:
        if file.read(len(_UTF8_MARK)) != _UTF8_MARK:
            file.seek(0)
        while data := file.read(block):
            for line in _lines(data):
                rest += line
                inside ^= bool(line.count(b'"') % 2)
                if not inside and line.endswith(b"\n"):
                    if rest.strip():
                        yield bytes(rest)
                    rest.clear()
                elif len(rest) > _LONGEST_RECORD:
                    raise SimulationError(
                        f"{path} has a record of over {_LONGEST_RECORD >> 20} MiB, most likely behind "
                        "a quote that is never closed: mend the file."
                    )
    if inside:
        raise SimulationError(f"{path} ends inside a quoted field: it is cut off, get the whole file.")
    if rest:
        yield bytes(rest) + b"\n"


def _lines(data: bytes) -> Iterator[bytes]:
    # A lone carriage return ends no record.
    *whole, last = data.split(b"\n")
    yield from (line + b"\n" for line in whole)
    if last:
        yield last


def _first_field(record: bytes) -> bytes:
    if record.startswith(b'"'):
        return next(csv.reader([record.decode("utf-8", "replace")]))[0].encode()
    return record.split(b",", 1)[0].strip()


def _part(vin: bytes, batches: int, test_fraction: float) -> int:
    """0 is the test part, others are batches; decided by the vin alone, so that a car is in one part only."""
    if zlib.crc32(vin) < test_fraction * _HASHES:
        return 0
    return 1 + zlib.crc32(b"batch:" + vin) % batches


def _checked_header(path: Path, header: bytes) -> None:
    names = next(csv.reader([header.decode("utf-8", "replace")]), [])
    if tuple(names) != COLUMNS:
        missing = [name for name in COLUMNS if name not in names]
        told = f"it lacks {', '.join(missing[:5])}" if missing else "they are in another order, or more"
        raise SimulationError(
            f"{path} has not the {len(COLUMNS)} columns of the published file ({told}): pass that file, or a "
            "generated one."
        )


def split_listings(path: Path, folder: Path, batches: int, test_fraction: float) -> Split:
    """Write `batch-0001.csv` and so on, and `test.csv`, each with the header; they appear when complete."""
    records = csv_records(path)
    header = next(records, b"")
    _checked_header(path, header)
    names = ["test.csv", *(f"batch-{number:04}.csv" for number in range(1, batches + 1))]
    folder.mkdir(parents=True, exist_ok=True)
    attempts = [folder / f".{name}.{os.getpid()}" for name in names]
    counts = [0] * len(names)
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(attempt.open("wb")) for attempt in attempts]
            for file in files:
                file.write(header)
            for record in records:
                part = _part(_first_field(record), batches, test_fraction)
                files[part].write(record)
                counts[part] += 1
        for attempt, name in zip(attempts, names, strict=True):
            attempt.replace(folder / name)
        for stale in set(folder.glob("batch-[0-9][0-9][0-9][0-9].csv")) - {folder / name for name in names}:
            stale.unlink()  # of an earlier split into more batches
    finally:
        for attempt in attempts:
            attempt.unlink(missing_ok=True)
    return Split(dict(zip(names, counts, strict=True)))
