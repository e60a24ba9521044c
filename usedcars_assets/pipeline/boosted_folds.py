"""Boosted trees for each fold and for all rows, from one reading and one binning of the rows.

Chen and Guestrin, "XGBoost: a scalable tree boosting system", 2016. The rows come through Arrow into one
Python task, or into several that XGBoost's collective joins, and are binned there once. The model of a fold
is trained on the same bins with a weight of 0 for the rows of that fold, which so have no part in it but in
where the edges of the bins are, and predicts them at once. docs/decisions/026 has the measurements.

A training of few further rows need not begin anew: it adds some trees to those of the former one, fold by
fold, as a car stays in its fold (docs/decisions/037).
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame

from usedcars_assets.pipeline.lines_by_fold import (
    Line,
    block_of,
    fold_sums,
    no_line,
    ridge,
    sums_without_each,
    with_arrays,
)
from usedcars_assets.pipeline.monotone import monotone_constraints

_SCHEMA = pa.schema(
    [
        ("listing_id", pa.string()),
        ("prediction", pa.float64()),
        ("report", pa.string()),
        ("booster", pa.binary()),
    ]
)
_SPARK_SCHEMA = "listing_id string, prediction double, report string, booster binary"
_TREES_ADDED = 10  # to those of a former training
_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Boosters:
    """What a later training goes on from: by fold, and by None for all rows, the trees as XGBoost's JSON.

    curves: by fold, after each tree the errors of the rows seen and not seen; error: of all rows by trees
    that did not see them (all RMSE of log price). before: how many of the trees of all rows are of a former
    training.
    """

    trees: Mapping[int | None, bytes]
    curves: Mapping[int, list[tuple[float, float]]]
    error: float
    before: int = 0


@dataclass(frozen=True)
class BoostedFolds:
    """boosters: of all rows and of the folds; line: what the trees of all rows are added to, if they are.

    unseen: listing_id and prediction of log price by the models that had no row of the fold, checkpointed.
    fold_seconds: what each fold's model took to train, and to predict the rows of its fold.
    trees: how many the model has: of those that it might have no more than did the folds good.
    """

    boosters: Boosters
    line: Line | None
    unseen: DataFrame
    fold_seconds: list[tuple[float, float]]
    training_seconds: float
    trees: int

    @property
    def booster(self) -> bytes:
        """Of all rows, XGBoost's JSON."""
        return self.boosters.trees[None]

    @property
    def curves(self) -> list[list[tuple[float, float]]]:
        """Those of the boosters, in the order of the folds."""
        return list(self.boosters.curves.values())


@dataclass(frozen=True)
class _Task:
    """What each Python task is told."""

    folds: tuple[int, ...]
    settings: Mapping[str, float | int | str]
    rounds: int
    max_bin: int
    on_a_line: bool
    early_stopping: bool
    collective: Mapping[str, Any] | None
    former: Boosters | None


def boost_folds(
    rows: DataFrame,
    features: str,
    folds: Sequence[int],
    parameters: Mapping[str, float | int | str],
    seed: int,
    *,
    on_a_line: bool = False,
    former: Boosters | None = None,
) -> BoostedFolds:
    """Trains a model without each of the folds, and one on all rows.

    rows: listing_id, fold, log_price and the vector `features`. parameters: those of gradient_boosting, of
    which `num_workers` says how many Spark tasks train together, each with spark.task.cpus threads, and
    `monotone`, where there is such a one, that the prices keep what the trade knows (`monotone_constraints`).
    With `early_stopping` they have as many trees as are best for rows not seen, `n_estimators` at most: found
    over the folds together, as each alone would stop at another number by chance, and for the rows of a fold
    over the others.
    on_a_line: the trees are of what a linear model (ridge regression: Hoerl and Kennard, 1970) leaves; raises
    PipelineError when a feature is missing somewhere, which trees alone can do without.
    former: of a training with the same folds and features; some trees are added to its own.
    """
    workers = int(parameters["num_workers"])
    with _collective(workers) as collective:
        constraints = monotone_constraints(rows, features) if parameters.get("monotone") else ()
        task = _task(folds, parameters, seed, on_a_line, constraints, collective, former)
        # Not a cache, which would train again what it has lost.
        found = (
            rows_in_order(rows, features, workers)
            .mapInArrow(partial(_train, task=task), _SPARK_SCHEMA, barrier=workers > 1)
            .localCheckpoint()
        )
    told = found.where("report IS NOT NULL").select("report", "booster").collect()
    if not told:
        raise no_line(features)
    reports = {report["fold"]: report for report in (json.loads(row.report) for row in told)}
    trees = {json.loads(row.report)["fold"]: bytes(row.booster) for row in told}
    whole = reports[None]
    curves = {fold: [(seen, unseen) for seen, unseen in reports[fold]["curve"]] for fold in folds}
    line = Line(np.array(whole["coefficients"]), whole["intercept"]) if on_a_line else None
    return BoostedFolds(
        boosters=Boosters(trees, curves, whole["error"], whole["before"]),
        line=line,
        unseen=found.where("report IS NULL").select("listing_id", "prediction"),
        fold_seconds=[(reports[fold]["training"], reports[fold]["prediction"]) for fold in folds],
        training_seconds=whole["training"],
        trees=whole["trees"],
    )


def rows_in_order(rows: DataFrame, features: str, partitions: int) -> DataFrame:
    """What boosting reads: listing_id, fold, the log price as `target`, and the vector as an array.

    In an order that does not depend on how the rows were read.
    """
    return (
        with_arrays(rows, features, "listing_id")
        .repartition(partitions, "listing_id")
        .sortWithinPartitions("listing_id")
    )


def fold_curve(
    batches: Iterable[pa.RecordBatch],
    fold: int,
    folds: Sequence[int],
    parameters: Mapping[str, float | int | str],
    seed: int,
    *,
    on_a_line: bool = False,
    constraints: Sequence[int] = (),
    threads: int = 1,
) -> list[float]:
    """The errors of the rows of a fold (RMSE of log price) after each tree that never saw them.

    batches: of `rows_in_order`, all of them in this process. constraints: of `monotone_constraints`.
    """
    _import_xgboost()
    task = _task(folds, parameters, seed, on_a_line, constraints, None, None)
    fitted = _Boosting.of(_Part.of(batches), task, threads).fitted(fold, task.rounds)
    return [unseen for _, unseen in fitted.curve]


def _task(
    folds: Sequence[int],
    parameters: Mapping[str, float | int | str],
    seed: int,
    on_a_line: bool,
    constraints: Sequence[int],
    collective: Mapping[str, Any] | None,
    former: Boosters | None,
) -> _Task:
    own = ("n_estimators", "early_stopping", "monotone", "num_workers", "max_bin")
    settings = {name: value for name, value in parameters.items() if name not in own}
    if any(constraints):
        settings["monotone_constraints"] = f"({','.join(map(str, constraints))})"
    return _Task(
        folds=tuple(folds),
        settings={
            **settings,
            "tree_method": "hist",
            # Best-first (Shi, "Best-first decision tree learning", 2007): leaves are where they pay.
            "grow_policy": "lossguide",
            "objective": "reg:squarederror",
            "seed": seed,
        },
        rounds=_TREES_ADDED if former else int(parameters["n_estimators"]),
        max_bin=int(parameters["max_bin"]),
        on_a_line=on_a_line,
        early_stopping=bool(parameters["early_stopping"]),
        collective=collective,
        former=former,
    )


@contextmanager
def _collective(workers: int) -> Iterator[Mapping[str, Any] | None]:
    """What several tasks find each other by; one needs nothing."""
    if workers == 1:
        yield None
        return
    from pyspark.sql import SparkSession
    from xgboost.tracker import RabitTracker

    host = SparkSession.active().conf.get("spark.driver.host")
    tracker = RabitTracker(n_workers=workers, host_ip=host, sortby="task")
    tracker.start()
    try:
        yield {**tracker.worker_args(), "n_workers": workers}
    finally:
        tracker.free()


def _train(batches: Iterable[pa.RecordBatch], task: _Task) -> Iterator[pa.RecordBatch]:
    """One Python task: all models, over its part of the rows."""
    _import_xgboost()
    from xgboost import collective

    context = TaskContext.get()
    if context is None:
        raise RuntimeError("trees are boosted inside a Spark task")
    part = _Part.of(batches)
    if task.collective is None:
        yield from part.trained(task, context.cpus())
        return
    with collective.CommunicatorContext(**task.collective, dmlc_task_id=str(context.partitionId())):
        yield from part.trained(task, context.cpus())


def _import_xgboost() -> None:
    """Without scikit-learn: it is there for MLflow, XGBoost would import it for wrappers that nobody uses
    here, and each new Python task would take four seconds for that instead of one.
    """
    if "sklearn" in sys.modules:
        return
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    try:
        import xgboost  # noqa: F401
    finally:
        del sys.modules["sklearn"]


@dataclass(frozen=True)
class _Part:
    """The rows of one task; their features in blocks, as they came."""

    ids: pa.ChunkedArray
    fold: npt.NDArray[np.int32]
    log_price: _Doubles
    blocks: list[_Floats]

    @staticmethod
    def of(batches: Iterable[pa.RecordBatch]) -> "_Part":
        ids, fold, log_price, blocks = [], [], [], []
        for batch in batches:
            if not len(batch):
                continue
            of_batch, features, prices = block_of(batch)
            ids.append(batch.column("listing_id"))
            fold.append(of_batch)
            log_price.append(prices)
            blocks.append(features)
        return _Part(
            pa.chunked_array(ids, pa.string()), np.concatenate(fold), np.concatenate(log_price), blocks
        )

    def trained(self, task: _Task, threads: int) -> Iterator[pa.RecordBatch]:
        from xgboost import collective

        boosting = _Boosting.of(self, task, threads)
        lines, matrix = boosting.lines, boosting.matrix
        if not all(np.isfinite(line.coefficients).all() for line in lines.values()):
            return  # without a report, which says so

        of_folds = {fold: boosting.fitted(fold, task.rounds) for fold in task.folds}
        curves = {fold: [unseen for _, unseen in fitted.curve] for fold, fitted in of_folds.items()}

        def rounds_without(fold: int | None) -> int:
            # A fold's own errors have no say in how its rows are predicted.
            return best_rounds([curves[other] for other in curves if other != fold])

        stops = task.early_stopping and len(curves) > 1
        unseen, reports, boosters = np.full(len(self.fold), np.nan), [], []
        for fold, fitted in of_folds.items():
            started = time.monotonic()
            held_out = self.fold == fold
            kept = fitted.booster[: fitted.before + (rounds_without(fold) if stops else task.rounds)]
            predicted = fitted.of_line + kept.predict(matrix)
            unseen[held_out] = predicted[held_out]
            prediction = time.monotonic() - started
            former = [] if task.former is None else task.former.curves[fold][: fitted.before]
            curve = [*former, *fitted.curve]
            reports.append(
                {"fold": fold, "training": fitted.seconds, "prediction": prediction, "curve": curve}
            )
            boosters.append(bytes(kept.save_raw("json")))
        whole = boosting.fitted(None, rounds_without(None) if stops else task.rounds)
        report = {
            "fold": None,
            "training": whole.seconds,
            "before": whole.before,
            "trees": whole.booster.num_boosted_rounds(),
            "error": _root_mean_square(unseen - self.log_price),
        }
        boosters.append(bytes(whole.booster.save_raw("json")))
        if lines:
            report |= {"coefficients": lines[None].coefficients.tolist(), "intercept": lines[None].intercept}
        if not collective.is_distributed() or collective.get_rank() == 0:
            told = [json.dumps(each) for each in (*reports, report)]
            nothing = (pa.nulls(len(told), field.type) for field in list(_SCHEMA)[:2])
            yield pa.RecordBatch.from_arrays(
                [*nothing, pa.array(told, pa.string()), pa.array(boosters, pa.binary())], schema=_SCHEMA
            )
        start = 0
        for ids in self.ids.chunks:
            of_ids = pa.array(unseen[start : start + len(ids)])
            nothing = (pa.nulls(len(ids), field.type) for field in list(_SCHEMA)[2:])
            yield pa.RecordBatch.from_arrays([ids, of_ids, *nothing], schema=_SCHEMA)
            start += len(ids)

    def on(self, line: Line) -> _Doubles:
        return np.concatenate([block @ line.coefficients for block in self.blocks]) + line.intercept

    def lines(self, folds: Sequence[int]) -> dict[int | None, Line]:
        """A line for each fold, of all other rows, and one for all rows."""
        ends = np.cumsum([0, *map(len, self.blocks)])
        sums = fold_sums(
            (
                (self.fold[start:end], block, self.log_price[start:end])
                for block, (start, end) in zip(self.blocks, pairwise(ends), strict=True)
            ),
            folds,
        )
        return {fold: ridge(of_others) for fold, of_others in sums_without_each(_added_up(sums), folds)}


class _Fitted(NamedTuple):
    """before: the trees of a former training among those of `booster`, which come first.

    curve: after each further tree, the root mean squared errors of log price of the rows seen and not seen.
    """

    booster: Any
    before: int
    of_line: _Doubles
    curve: list[tuple[float, float]]
    seconds: float


@dataclass(frozen=True)
class _Boosting:
    """The rows of a task, binned; what to do with them; the lines of the folds, if any."""

    part: _Part
    matrix: Any
    lines: Mapping[int | None, Line]
    settings: Mapping[str, Any]
    former: Mapping[int | None, bytes]

    @staticmethod
    def of(part: _Part, task: _Task, threads: int) -> "_Boosting":
        import xgboost

        matrix = xgboost.QuantileDMatrix(_as_iterator(part.blocks), max_bin=task.max_bin, nthread=threads)
        lines = part.lines(task.folds) if task.on_a_line else {}
        settings = {**task.settings, "max_bin": task.max_bin, "nthread": threads}
        return _Boosting(part, matrix, lines, settings, task.former.trees if task.former else {})

    def fitted(self, fold: int | None, rounds: int) -> _Fitted:
        """Trees that the rows of the fold have no part in, and their errors."""
        import xgboost

        started = time.monotonic()
        part = self.part
        of_line = part.on(self.lines[fold]) if self.lines else np.zeros(len(part.fold))
        target, held_out = part.log_price - of_line, part.fold == fold
        self.matrix.set_info(label=target, weight=(~held_out).astype(np.float32))
        curve: list[tuple[float, float]] = []

        def errors(predicted: _Floats, _: Any) -> tuple[str, float]:
            squares = (target - predicted) ** 2
            seen, unseen = ((squares[of].sum(), np.count_nonzero(of)) for of in (~held_out, held_out))
            sums = _added_up(np.array([*seen, *unseen], np.float64))
            curve.append((float(np.sqrt(sums[0] / sums[1])), float(np.sqrt(sums[2] / sums[3]))))
            return "unseen", curve[-1][1]

        watched: dict[str, Any] = {"evals": [(self.matrix, "rows")], "custom_metric": errors}
        former = xgboost.Booster(model_file=bytearray(self.former[fold])) if self.former else None
        before = former.num_boosted_rounds() if former else 0
        booster = xgboost.train(
            # Further trees draw other rows and features than the first ones did.
            {**self.settings, "disable_default_eval_metric": 1, "seed": self.settings["seed"] + before},
            self.matrix,
            rounds,
            verbose_eval=False,
            xgb_model=former,
            **({} if fold is None else watched),
        )
        return _Fitted(booster, before, of_line, curve, time.monotonic() - started)


def best_rounds(curves: Sequence[Sequence[float]]) -> int:
    """The number of trees with the least error of rows not seen, over the folds together."""
    return 1 + int(np.argmin(np.mean(np.square(curves), axis=0)))


def _root_mean_square(errors: _Doubles) -> float:
    sums = _added_up(np.array([np.square(errors).sum(), len(errors)], np.float64))
    return float(np.sqrt(sums[0] / sums[1]))


def _added_up(sums: _Doubles) -> _Doubles:
    """Over all tasks that train together."""
    from xgboost import collective

    if not collective.is_distributed():
        return sums
    return np.asarray(collective.allreduce(sums.ravel(), collective.Op.SUM)).reshape(sums.shape)


def _as_iterator(blocks: Sequence[_Floats]) -> Any:
    """The blocks as XGBoost reads them, without a copy of them all in one piece."""
    import xgboost

    class Blocks(xgboost.DataIter):
        def __init__(self) -> None:
            self._next = 0
            super().__init__()

        def next(self, input_data: Any) -> bool:
            if self._next == len(blocks):
                return False
            input_data(data=blocks[self._next])
            self._next += 1
            return True

        def reset(self) -> None:
            self._next = 0

    return Blocks()
