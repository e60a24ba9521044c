"""Whether a version is worse than the former one on the same cars."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from usedcars_assets.pipeline.paired_comparison import (
    PairedErrors,
    chance_of_no_excess,
    is_worse,
    paired_errors,
)

MARGIN, CONFIDENCE, LOOKS, LEAST = 0.02, 0.99, 12, 200
TRIALS = 2_000


def simulated(
    chance: np.random.Generator, cars: int, spread: float, former_spread: float, margin: float = MARGIN
) -> PairedErrors:
    """Two versions whose logarithmic errors share a part, with tails as heavy as Student's t of 5 degrees."""
    shared, own, former_own = chance.standard_t(5, size=(3, cars)) * 0.1
    error, former_error = np.abs(shared + spread * own), np.abs(shared + former_spread * former_own)
    excess = error - (1 + margin) * former_error
    return PairedErrors(
        cars, error.mean(), former_error.mean(), float(excess.mean()), float(excess.std(ddof=1))
    )


def called_worse(found: PairedErrors, looks: int = LOOKS) -> bool:
    return is_worse(found, CONFIDENCE, looks, LEAST)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(0.05, 2))
def test_an_equal_version_is_called_worse_no_more_often_than_the_confidence_says(
    seed: int, spread: float
) -> None:
    chance = np.random.default_rng(seed)
    # Without a margin, and with a single look: where mistakes are most frequent, at 1 %.
    wrong = sum(called_worse(simulated(chance, 200, spread, spread, 0.0), 1) for _ in range(TRIALS))
    # Five standard deviations of the count above its mean: no accident in so many examples.
    assert wrong <= TRIALS * 0.01 + 5 * math.sqrt(TRIALS * 0.01)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_looking_at_each_doubling_calls_an_equal_version_worse_no_more_often_either(seed: int) -> None:
    chance = np.random.default_rng(seed)

    def ever(looks: int = 5) -> bool:
        error, former_error = np.abs(chance.standard_t(5, size=(2, 200 * 2 ** (looks - 1))) * 0.1)
        for look in range(looks):
            excess = (error - former_error)[: 200 * 2**look]
            found = PairedErrors(len(excess), 0, 0, float(excess.mean()), float(excess.std(ddof=1)))
            if called_worse(found, looks):
                return True
        return False

    wrong = sum(ever() for _ in range(500))
    assert wrong <= 500 * 0.01 + 5 * math.sqrt(500 * 0.01)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_version_that_is_truly_worse_is_called_so(seed: int) -> None:
    chance = np.random.default_rng(seed)
    assert called_worse(simulated(chance, 2_000, 1.5, 0.5))
    assert not called_worse(simulated(chance, 2_000, 0.5, 1.5)), "a better one is not"


def test_a_version_within_the_margin_stays() -> None:
    chance = np.random.default_rng(1)
    error = np.abs(chance.normal(0.1, 0.02, 5_000))
    excess = error * 1.01 - 1.02 * error  # 1 % worse on every car
    found = PairedErrors(5_000, 0.101, 0.1, float(excess.mean()), float(excess.std(ddof=1)))
    assert not called_worse(found)


def test_too_few_cars_decide_nothing() -> None:
    sure = PairedErrors(199, 1.0, 0.1, 0.9, 0.1)
    assert chance_of_no_excess(sure) < 1e-9
    assert not called_worse(sure)


def test_versions_that_give_the_same_prices_are_equal() -> None:
    assert not called_worse(PairedErrors(500, 0.0, 0.0, 0.0, 0.0))


def test_errors_are_those_of_the_logarithms_over_complete_pairs(spark: SparkSession) -> None:
    rows = [
        (11_000.0, 10_000.0, 10_000.0),
        (10_000.0, 12_000.0, 10_000.0),
        (9_000.0, 10_000.0, 1e8),  # a slip of the keyboard
        (9_000.0, None, 10_000.0),  # the former version rejects it
    ]
    found = paired_errors(
        spark.createDataFrame(rows, "price DOUBLE, former_price DOUBLE, set_price DOUBLE"), MARGIN
    )
    errors = np.abs(np.log([1.1, 1.0, 9e3 / 1e8]))
    former_errors = np.abs(np.log([1.0, 1.2, 1e4 / 1e8]))
    excess = errors - (1 + MARGIN) * former_errors
    assert found.pairs == 3
    assert found.error == pytest.approx(errors.mean())
    assert found.former_error == pytest.approx(former_errors.mean())
    assert found.excess == pytest.approx(excess.mean())
    assert found.deviation == pytest.approx(excess.std(ddof=1))


def test_without_any_pair_nothing_is_said(spark: SparkSession) -> None:
    none = spark.createDataFrame([], "price DOUBLE, former_price DOUBLE, set_price DOUBLE")
    assert paired_errors(none, MARGIN) == PairedErrors(0, 0.0, 0.0, 0.0, 0.0)
