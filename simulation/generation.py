"""A data set of raw listings, streamed to a file in chunks: same seed and rows, same bytes."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from simulation.drawing import draw_listings
from simulation.listing_format import HEADER
from simulation.rendering import render

_CHUNK: Final = 10_000


def listing_chunks(rows: int, seed: int) -> Iterator[tuple[int, bytes]]:
    """Pairs of a count of rows and their CSV; fewer rows of one seed are the beginning of more."""
    id_origin = int(np.random.default_rng([seed, 0]).integers(0, 2**31))
    for chunk, first in enumerate(range(0, rows, _CHUNK)):
        # A chunk is always drawn whole, so that its rows do not depend on how many are wanted.
        draws = draw_listings(np.random.default_rng([seed, 1, chunk]), first, _CHUNK, id_origin)
        wanted = min(_CHUNK, rows - first)
        yield wanted, render(draws, wanted)


def generate_listings(path: Path, rows: int, seed: int) -> Iterator[int]:
    """Write the file and yield the count of rows so far; it appears under its name when complete."""
    attempt = path.with_name(f".{path.name}.{os.getpid()}")
    written = 0
    try:
        with attempt.open("wb") as file:
            file.write(HEADER.encode())
            for count, text in listing_chunks(rows, seed):
                file.write(text)
                written += count
                yield written
        attempt.replace(path)
    finally:
        attempt.unlink(missing_ok=True)
