"""Cross-validation of a model that Spark fits: one fit a fold, and one on all rows."""

import time
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import NamedTuple

from pyspark.ml import Model
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.boosted_folds import Boosters
from usedcars_assets.pipeline.members.member import CrossValidate, CrossValidation, Parameters
from usedcars_assets.pipeline.queries_at_once import queries_at_once

Fit = Callable[[DataFrame, str, str, Parameters, int], Model]


class _Fold(NamedTuple):
    unseen: DataFrame
    training_seconds: float
    validation_seconds: float


def fold_by_fold(fit: Fit) -> CrossValidate:
    """fit: (rows, features column, prediction column, parameters, seed) -> a JVM stage."""

    def cross_validate(
        rows: DataFrame,
        features: str,
        prediction: str,
        parameters: Parameters,
        seed: int,
        folds: Sequence[int],
        _: Boosters | None = None,  # each is trained anew
    ) -> CrossValidation:
        cached: list[DataFrame] = []

        def timed_fit(to_fit: DataFrame) -> tuple[Model, float]:
            start = time.monotonic()
            return fit(to_fit, features, prediction, parameters, seed), time.monotonic() - start

        def validate(fold: int) -> _Fold:
            of_fold, training_seconds = timed_fit(rows.where(sf.col("fold") != fold))
            start = time.monotonic()
            unseen = of_fold.transform(rows.where(sf.col("fold") == fold)).select("listing_id", prediction)
            cached.append(unseen.persist())
            unseen.count()
            return _Fold(unseen, training_seconds, time.monotonic() - start)

        try:
            *of_folds, (model, training_seconds) = queries_at_once(
                rows.sparkSession,
                *(partial(validate, fold) for fold in folds),
                lambda: timed_fit(rows),
            )
        except BaseException:
            for table in cached:
                table.unpersist()
            raise
        return CrossValidation(
            model=model,
            unseen=reduce(DataFrame.union, (fold.unseen for fold in of_folds)),
            fold_seconds=[(fold.training_seconds, fold.validation_seconds) for fold in of_folds],
            training_seconds=training_seconds,
            cached=tuple(cached),
        )

    return cross_validate
