"""A file is cut by car, and nothing of it is lost."""

import csv
import io
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulation.errors import SimulationError
from simulation.listing_format import HEADER
from simulation.splitting import csv_records, split_listings

fields = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=12)


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.lists(fields, min_size=2, max_size=4), max_size=8), block=st.integers(1, 40))
def test_records_are_those_the_csv_module_reads_wherever_blocks_end(
    tmp_path: Path, rows: list[list[str]], block: int
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    (tmp_path / "raw.csv").write_bytes(text.getvalue().encode())
    found = list(csv_records(tmp_path / "raw.csv", block))
    assert b"".join(found) == text.getvalue().encode()
    assert [next(csv.reader(io.StringIO(record.decode(), newline=""))) for record in found] == rows


@pytest.mark.parametrize("batches", [1, 3])
def test_no_row_is_lost_and_a_car_is_in_one_part_only(generated: Path, tmp_path: Path, batches: int) -> None:
    split = split_listings(generated, tmp_path, batches, 0.2)
    parts = {path.name: records(path) for path in tmp_path.iterdir()}
    assert set(parts) == {"test.csv", *(f"batch-{number:04}.csv" for number in range(1, batches + 1))}
    assert split.rows == {name: len(rows) for name, rows in parts.items()}

    def countable(rows: list[dict[str, str]]) -> Counter[tuple[str, ...]]:
        return Counter(tuple(row.values()) for row in rows)

    assert sum((countable(rows) for rows in parts.values()), Counter()) == countable(records(generated))
    where = defaultdict(set)
    for name, rows in parts.items():
        for row in rows:
            where[row["vin"]].add(name)
    assert all(len(names) == 1 for names in where.values())


def test_parts_have_about_the_wanted_sizes(generated: Path, tmp_path: Path) -> None:
    rows = split_listings(generated, tmp_path, 4, 0.2).rows
    assert rows["test.csv"] == pytest.approx(4_000, rel=0.1)
    assert all(rows[f"batch-{number:04}.csv"] == pytest.approx(4_000, rel=0.1) for number in range(1, 5))


def test_a_car_stays_in_its_part_when_other_rows_come_along(generated: Path, tmp_path: Path) -> None:
    lines = list(csv_records(generated))
    (tmp_path / "half.csv").write_bytes(b"".join([lines[0], *lines[1::2]]))
    split_listings(generated, tmp_path / "whole", 3, 0.1)
    split_listings(tmp_path / "half.csv", tmp_path / "half", 3, 0.1)
    for part in (tmp_path / "half").iterdir():
        whole = {row["vin"] for row in records(tmp_path / "whole" / part.name)}
        assert {row["vin"] for row in records(part)} <= whole


def test_a_split_into_fewer_batches_leaves_none_of_the_earlier(generated: Path, tmp_path: Path) -> None:
    split_listings(generated, tmp_path, 3, 0.1)
    split_listings(generated, tmp_path, 1, 0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch-0001.csv", "test.csv"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "66 columns"),
        ("vin,price\n1,2\n", "lacks back_legroom"),
        (HEADER.replace("vin,", "vin,vin2,"), "66 columns"),
        (HEADER + '1,"never closed\n' + "2,3\n" * 5, "ends inside a quoted field"),
    ],
)
def test_a_file_that_cannot_be_split_is_told_and_leaves_no_parts(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "raw.csv").write_text(text)
    with pytest.raises(SimulationError, match=told):
        split_listings(tmp_path / "raw.csv", tmp_path / "parts", 2, 0.1)
    assert not (tmp_path / "parts").exists() or not list((tmp_path / "parts").iterdir())
