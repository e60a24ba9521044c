import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_app.input_drift import Feature, TrainingDistribution, drift

COUNTS = st.lists(st.integers(min_value=0, max_value=100_000), min_size=2, max_size=12)


def trained(*counts: list[int]) -> TrainingDistribution:
    features = tuple(
        Feature(f"f{place}", tuple(map(str, range(len(each)))), tuple(each))
        for place, each in enumerate(counts)
    )
    return TrainingDistribution(features, ("SELECT * FROM __THIS__",))


def test_the_index_is_the_textbook_sum_over_bins() -> None:
    (found,) = drift(trained([50_000, 50_000]), [[80_000, 20_000]])
    expected = 0.3 * math.log(0.8 / 0.5) - 0.3 * math.log(0.2 / 0.5)
    assert found.index == pytest.approx(expected, rel=1e-3)
    assert (found.bin, round(found.trained_share, 2), round(found.live_share, 2)) == ("1", 0.5, 0.2)


@given(COUNTS)
def test_the_same_rows_have_no_drift(counts: list[int]) -> None:
    assert drift(trained(counts), [counts])[0].index == 0


@given(st.data(), COUNTS)
def test_any_other_rows_have_a_finite_drift_that_is_the_same_in_both_directions(
    data: st.DataObject, counts: list[int]
) -> None:
    same_bins = st.lists(st.integers(0, 100_000), min_size=len(counts), max_size=len(counts))
    others = data.draw(same_bins)
    one, other = drift(trained(counts), [others])[0], drift(trained(others), [counts])[0]
    assert 0 <= one.index < math.inf
    assert one.index == pytest.approx(other.index)


def test_the_feature_that_has_moved_most_comes_first() -> None:
    found = drift(trained([10, 10], [10, 10], [10, 10]), [[10, 10], [19, 1], [15, 5]])
    assert [each.name for each in found] == ["f1", "f2", "f0"]


@pytest.mark.parametrize(
    "document",
    [
        *("", "[]", "{}", '{"features": [], "statements": 1}'),
        json.dumps({"features": [{"name": "f", "labels": ["a"], "counts": [1, 2]}], "statements": []}),
        json.dumps({"features": [{"name": "f", "labels": ["a"], "counts": ["many"]}], "statements": []}),
    ],
)
def test_what_is_no_training_distribution_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match=r"distribution|JSON|Expecting|literal"):
        TrainingDistribution.read(document)
