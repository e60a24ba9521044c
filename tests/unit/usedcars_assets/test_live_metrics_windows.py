"""Which windows of the live metrics are told, and how."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from usedcars_assets.rollout.live_metrics import Cursor, finished_windows, observations

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def instant(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def window(minute: int, version: str = "7", **figures: Any) -> bytes:
    start = NOON + timedelta(minutes=minute)
    times = {"window_start": instant(start), "window_end": instant(start + timedelta(minutes=10))}
    return json.dumps({**times, "model_version": version, "count": 1, "mae": 100.0, **figures}).encode()


def test_a_window_is_told_once_with_its_last_figures_when_it_is_over() -> None:
    values = [window(0, mae=1.0), window(0, mae=2.0), window(1, mae=3.0)]
    told, cursor = finished_windows(Cursor(), values, NOON + timedelta(minutes=10))
    assert [figures["mae"] for figures in told] == [2.0]
    told, cursor = finished_windows(cursor, [window(0, mae=9.0)], NOON + timedelta(minutes=11))
    assert [figures["mae"] for figures in told] == [3.0]
    assert cursor.open == {}


def test_what_is_no_window_is_passed_over() -> None:
    values = [
        b"",
        b"[]",
        b"{",
        b'{"model_version": 1}',
        b'{"model_version": 1, "window_start": "x"}',
        window(0),
    ]
    told, _ = finished_windows(Cursor(), values, NOON + timedelta(hours=1))
    assert len(told) == 1


@settings(deadline=None)
@given(
    published=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["7", "8", "all"])), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_however_the_records_are_cut_into_looks_each_window_is_told_exactly_once(
    published: list[tuple[int, str]], cuts: list[int]
) -> None:
    published.sort(key=lambda one: one[0])
    told: list[tuple[str, str]] = []
    cursor = Cursor()
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(published)], strict=True):
        values = [window(*one) for one in published[start:end]]
        newest = max((minute for minute, _ in published[:end]), default=0)
        over, cursor = finished_windows(cursor, values, NOON + timedelta(minutes=newest + 9))
        cursor = Cursor.model_validate_json(cursor.model_dump_json())
        told += [(figures["model_version"], figures["window_start"]) for figures in over]
    over, cursor = finished_windows(cursor, [], NOON + timedelta(days=1))
    told += [(figures["model_version"], figures["window_start"]) for figures in over]
    assert len(told) == len(set(told)) == len(set(published))


def test_an_observation_has_a_line_of_its_own_for_each_version() -> None:
    values = [window(0, "all", mae=5.0), window(0, "7", mae=4.0, r2=None), window(0, "8", mae=6.0)]
    told, _ = finished_windows(Cursor(), values, NOON + timedelta(hours=1))
    (shown,) = observations(told)
    assert shown.metadata["mae"].value == 5.0
    assert shown.metadata["mae of version 7"].value == 4.0
    assert shown.metadata["mae of version 8"].value == 6.0
    assert "r2 of version 7" not in shown.metadata
