"""What the checks of a cleaned batch refuse, each from the facts that cleaning gathers."""

from collections.abc import Mapping
from typing import Any

import pytest

from usedcars_assets.ingestion.checks import expected_columns, faults, plausible_ranges
from usedcars_assets.ingestion.claims import BatchVersion
from usedcars_assets.references import CleanedBatch, ColumnFacts


def batch(columns: Mapping[str, ColumnFacts | None] | None = None, **instead: Any) -> CleanedBatch:
    """A good one, but for what is said otherwise; a column that is None is missing."""
    good = {
        name: ColumnFacts(type=kind, nulls=0, minimum=low, maximum=low)
        for name, kind in expected_columns().items()
        for low in (plausible_ranges().get(name, (None, None))[0],)
    }
    facts = {**good, **(columns or {})}
    values: dict[str, Any] = {
        "version": BatchVersion(batch="2026-01", fingerprint="f"),
        **dict.fromkeys(("arrived_at", "seconds"), 0.0),
        **dict.fromkeys(("cleaned_path", "rejected_path", "duplicates_path"), "path"),
        **{"read": 10, "cleaned": 7, "rejected": 2, "duplicates": 1},
        "rejected_by_reason": {"missing_price": 2},
        "columns": {name: about for name, about in facts.items() if about is not None},
        **dict.fromkeys(("sample", "rejected_sample"), ()),
    }
    return CleanedBatch(**(values | instead))


def test_a_good_batch_has_no_fault() -> None:
    assert set(faults({"2026-01": batch()})) == {"rows_accounted_for", "schema", "no_nulls", "ranges"}
    assert not any(faults({"2026-01": batch()}).values())


@pytest.mark.parametrize(
    ("bad", "check", "fault"),
    [
        (batch(cleaned=6), "rows_accounted_for", 1),
        (batch(cleaned=8), "rows_accounted_for", -1),
        (batch({"cabin": None}), "schema", {"cabin": "missing"}),
        (batch({"year": ColumnFacts(type="string", nulls=0)}), "schema", {"year": "string"}),
        (batch({"more": ColumnFacts(type="string", nulls=0)}), "schema", {"more": "string"}),
        (batch({"make_name": ColumnFacts(type="string", nulls=3)}), "no_nulls", {"make_name": 3}),
        (
            batch({"price_usd": ColumnFacts(type="double", nulls=0, minimum=1, maximum=9e9)}),
            "ranges",
            {"price_usd": [1, 9e9]},
        ),
    ],
    ids=[
        "a row is lost",
        "a row is doubled",
        "a missing column",
        "another type",
        "an unknown column",
        "a null",
        "out of range",
    ],
)
def test_each_fault_is_told_by_its_check_with_the_batch_it_is_in(
    bad: CleanedBatch, check: str, fault: Any
) -> None:
    found = faults({"2026-01": bad, "2026-02": batch()})
    assert {name: of for name, of in found.items() if of} == {check: {"2026-01": fault}}
