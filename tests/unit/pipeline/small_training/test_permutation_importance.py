from typing import Any

import pytest

from usedcars_assets.pipeline.cleaning import FLAGS, NUMBERS, TEXTS
from usedcars_assets.pipeline.evaluation import Metrics
from usedcars_assets.pipeline.permutation_importance import GROUPS, NOTHING, permutation_importance


def test_every_column_that_the_model_may_read_is_in_one_group() -> None:
    grouped = [column for group in GROUPS.values() for column in group]
    assert sorted(grouped) == sorted([*(number.column for number in NUMBERS), *TEXTS, *FLAGS, "listed_date"])


@pytest.fixture(scope="module")
def importance(training: Any) -> dict[str, Metrics]:
    return permutation_importance(training.artefact, training.split.where("split = 'test'"))


def test_with_nothing_shuffled_the_errors_are_those_of_the_stack(
    training: Any, importance: dict[str, Metrics]
) -> None:
    assert importance[NOTHING].rows == training.stack.test_metrics.rows
    assert importance[NOTHING].rmse == pytest.approx(training.stack.test_metrics.rmse, rel=1e-6)


def test_what_makes_the_price_is_missed_and_what_is_the_same_in_all_rows_is_not(
    importance: dict[str, Metrics],
) -> None:
    assert set(importance) == set(GROUPS)
    usual = importance[NOTHING].rmse
    assert importance["make, model and trim"].rmse > 1.5 * usual
    assert importance["year"].rmse > 1.1 * usual
    assert importance["color"].rmse == pytest.approx(usual, rel=1e-9)
