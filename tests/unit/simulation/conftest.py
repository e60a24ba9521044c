"""A generated file, shared by the tests that only read it."""

import csv
from pathlib import Path

import pytest

from simulation.generation import generate_listings

ROWS = 20_000
SEED = 4


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated") / "raw.csv"
    for _ in generate_listings(path, ROWS, SEED):
        pass
    return path


@pytest.fixture(scope="session")
def rows(generated: Path) -> list[dict[str, str]]:
    with generated.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
