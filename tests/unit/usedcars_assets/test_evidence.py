"""Which version is judged by its live errors, and how often."""

from usedcars_assets.rollout.evidence import look_reached, looks, version_under_watch
from usedcars_assets.rollout.ledger import Entry, Kind, Outcome


def entry(kind: Kind, outcome: Outcome, version: str, former: str | None) -> Entry:
    return Entry(kind=kind, outcome=outcome, model="price", version=version, former=former)


FIRST = entry("rollout", "answered", "1", None)
SECOND = entry("rollout", "answered", "2", "1")


def test_the_first_version_is_not_judged() -> None:
    assert version_under_watch([]) is None
    assert version_under_watch([FIRST]) is None


def test_a_version_that_replaced_another_is_judged_against_it() -> None:
    assert version_under_watch([FIRST, SECOND]) == SECOND
    later = entry("rollout", "undone", "3", "2")
    assert version_under_watch([FIRST, SECOND, later]) == SECOND, "what was undone changes nothing"


def test_a_version_brought_back_is_not_judged_until_the_next_rollout() -> None:
    back = entry("rollback", "answered", "1", "2")
    assert version_under_watch([FIRST, SECOND, back]) is None
    third = entry("rollout", "answered", "3", "1")
    assert version_under_watch([FIRST, SECOND, back, third]) == third


def test_a_version_rolled_out_over_itself_is_not_judged() -> None:
    assert version_under_watch([FIRST, entry("rollout", "answered", "1", "1")]) is None


def test_evidence_is_looked_at_each_time_it_has_doubled() -> None:
    assert looks(400, 1_000_000) == 12
    reached = [look_reached(n, 400, 1_000_000) for n in (0, 399, 400, 799, 800, 819_200, 10**9)]
    assert reached == [None, None, 0, 0, 1, 11, 11]
