from typing import Any

import pytest

from usedcars_assets.pipeline.hyperparameter_search import Trial, search

TRIALS, FOLDS = 8, 3


@pytest.fixture(scope="module")
def trials(training: Any) -> list[Trial]:
    heard: list[Trial] = []
    start = training.members["residual_boosting"].parameters
    found = search(
        training.train,
        "residual_boosting",
        start,
        trials=TRIALS,
        at_once=2,
        most_rows=100_000,
        seed=20,
        told=heard.append,
    )
    assert found == heard
    return found


def test_the_first_trial_is_what_a_training_does_now(training: Any, trials: list[Trial]) -> None:
    member = training.members["residual_boosting"]
    first = trials[0]
    assert (first.number, first.parameters, first.pruned) == (0, member.parameters, False)
    unseen = [min(error for _, error in curve) for curve in member.curves]
    assert first.fold_errors == pytest.approx(unseen, rel=1e-6)
    assert first.trees <= member.parameters["n_estimators"]


def test_others_are_tried_and_those_that_look_bad_are_given_up_before_the_last_fold(
    training: Any, trials: list[Trial]
) -> None:
    assert sorted(trial.number for trial in trials) == list(range(TRIALS))
    assert len({tuple(trial.parameters.values()) for trial in trials}) == TRIALS
    kept = {"n_estimators", "max_depth", "early_stopping", "max_bin", "num_workers"}
    for trial in trials:
        assert {trial.parameters[name] == trials[0].parameters[name] for name in kept} == {True}
        assert (len(trial.fold_errors) < FOLDS) == trial.pruned
    given_up = [trial for trial in trials if trial.pruned]
    assert given_up
    best = min((trial for trial in trials if not trial.pruned), key=lambda trial: trial.error)
    assert best.error <= trials[0].error
    assert min(trial.error for trial in given_up) > best.error


def test_the_same_rows_and_seed_are_searched_in_the_same_way(training: Any, trials: list[Trial]) -> None:
    again = search(
        training.train.orderBy("price"),
        "residual_boosting",
        training.members["residual_boosting"].parameters,
        trials=2,
        at_once=2,
        most_rows=100_000,
        seed=20,
    )
    assert [(one.parameters, one.error) for one in again] == [
        (one.parameters, one.error) for one in sorted(trials, key=lambda one: one.number)[:2]
    ]
