"""A search for the parameters of boosted trees, by cross-validation over the training rows.

Optuna (Akiba et al., 2019) chooses by a tree-structured Parzen estimator (Bergstra et al., "Algorithms for
hyper-parameter optimization", 2011) and gives up, fold by fold, on what is worse than the median of those
before (Golovin et al., "Google Vizier", 2017). Several trials at once are as many Spark tasks, each over a
copy of the rows.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame

from usedcars_assets.pipeline.boosted_folds import best_rounds, fold_curve, rows_in_order
from usedcars_assets.pipeline.members import MEMBERS
from usedcars_assets.pipeline.members.member import Parameters
from usedcars_assets.pipeline.monotone import monotone_constraints
from usedcars_assets.pipeline.thinned_rows import thinned

if TYPE_CHECKING:
    import optuna

# No more leaves than by default, and no more trees: both make serving slower (docs/decisions/030).
_LEAVES = (8, 64)
_FRACTIONS: Mapping[str, tuple[float, float]] = {"subsample": (0.5, 1.0), "colsample_bytree": (0.3, 1.0)}
_SCALES: Mapping[str, tuple[float, float]] = {
    "learning_rate": (0.04, 0.3),
    "min_child_weight": (0.5, 30.0),
    "reg_lambda": (0.1, 30.0),
}
_TRIALS_BEFORE_PRUNING = 4


@dataclass(frozen=True)
class Trial:
    """Parameters that were tried.

    fold_errors: RMSE of log price of each fold's rows, unseen, at that fold's best number of trees; fewer
        than there are folds when the trial was given up.
    error: over all folds, or those until then, at the number of trees that is best for them together.
    """

    number: int
    parameters: dict[str, float | int | str]
    fold_errors: tuple[float, ...]
    error: float
    trees: int
    pruned: bool
    seconds: float


def search(
    rows: DataFrame,
    member: str,
    start: Parameters,
    *,
    trials: int,
    at_once: int,
    most_rows: int,
    seed: int,
    told: Callable[[Trial], None] = lambda _: None,
) -> list[Trial]:
    """Tries `start` first and then what looks better; the best is the one with the least error, not pruned.

    rows: listing_id, fold, log_price and the member's vector; more than `most_rows` are thinned out to these.
    start: all parameters of the member; those that are not searched for stay. told: hears of each trial as it
    ends. The same rows and seed give the same trials.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_TRIALS_BEFORE_PRUNING),
    )
    space = _space()
    study.enqueue_trial({name: start[name] for name in space})
    described = MEMBERS[member]
    few = thinned(rows, most_rows, f"search {seed}")
    constraints = monotone_constraints(few, described.features) if start.get("monotone") else ()
    shared = rows_in_order(few, described.features, 1).localCheckpoint()
    folds = sorted(row.fold for row in shared.select("fold").distinct().collect())
    found: list[Trial] = []
    while len(found) < trials:
        began = time.monotonic()
        asked = [study.ask(space) for _ in range(min(at_once, trials - len(found)))]
        under_way = {trial.number: trial for trial in asked}
        curves: dict[int, list[list[float]]] = {number: [] for number in under_way}
        for step, fold in enumerate(folds):
            tried = [{**start, **trial.params} for trial in under_way.values()]
            of_fold = _curves(shared, member, tried, fold, folds, constraints, seed) if tried else []
            for trial, curve in zip(list(under_way.values()), of_fold, strict=True):
                so_far = [*curves[trial.number], curve]
                curves[trial.number] = so_far
                trial.report(_error(so_far), step)
                pruned = len(so_far) < len(folds)
                if pruned and not trial.should_prune():
                    continue
                del under_way[trial.number]
                ended = Trial(
                    number=trial.number,
                    parameters={**start, **trial.params},
                    fold_errors=tuple(min(curve) for curve in so_far),
                    error=_error(so_far),
                    trees=best_rounds(so_far),
                    pruned=pruned,
                    seconds=time.monotonic() - began,
                )
                if pruned:
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                else:
                    study.tell(trial, ended.error)
                found.append(ended)
                told(ended)
    return found


def _space() -> "dict[str, optuna.distributions.BaseDistribution]":
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        "max_leaves": IntDistribution(*_LEAVES, log=True),
        **{name: FloatDistribution(*ends) for name, ends in _FRACTIONS.items()},
        **{name: FloatDistribution(*ends, log=True) for name, ends in _SCALES.items()},
    }


def _error(curves: Sequence[Sequence[float]]) -> float:
    """Over the folds together, as a training stops: at one number of trees for all."""
    rounds = best_rounds(curves)
    return float(np.sqrt(np.mean([curve[rounds - 1] ** 2 for curve in curves])))


def _curves(
    shared: DataFrame,
    member: str,
    tried: Sequence[Parameters],
    fold: int,
    folds: Sequence[int],
    constraints: Sequence[int],
    seed: int,
) -> list[list[float]]:
    """The errors of a fold after each tree, for each of the parameters, each by a task of its own."""
    of_fold = partial(_curve, member=member, fold=fold, folds=folds, constraints=constraints, seed=seed)
    tables = [
        shared.mapInArrow(partial(of_fold, place=place, parameters=parameters), "place bigint, curve string")
        for place, parameters in enumerate(tried)
    ]
    found = {row.place: json.loads(row.curve) for row in reduce(DataFrame.union, tables).collect()}
    return [found[place] for place in range(len(tried))]


def _curve(
    batches: Iterable[pa.RecordBatch],
    *,
    place: int,
    member: str,
    parameters: Parameters,
    fold: int,
    folds: Sequence[int],
    constraints: Sequence[int],
    seed: int,
) -> Iterator[pa.RecordBatch]:
    context = TaskContext.get()
    curve = fold_curve(
        batches,
        fold,
        folds,
        parameters,
        seed,
        on_a_line=member == "residual_boosting",
        constraints=constraints,
        threads=context.cpus() if context else 1,
    )
    yield pa.RecordBatch.from_pydict({"place": [place], "curve": [json.dumps(curve)]})
