"""What a base model is to the pipeline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.ml import Model
from pyspark.sql import DataFrame

from usedcars_assets.pipeline.boosted_folds import Boosters

Parameters = Mapping[str, float | int | str]


@dataclass(frozen=True)
class CrossValidation:
    """A base model trained on all rows, and what models without their fold say of these.

    model: JVM stage that adds the prediction column.
    unseen: listing_id and the prediction column, cached; `cached` are the tables to be freed after it.
    fold_seconds: what each fold's model took to train, and to predict the rows of its fold.
    trees: how many a boosted model came to have; curves: of each fold, after each tree the errors of the rows
        seen and not seen (RMSE of log price); boosters: what a later training may go on from. None and empty
        for others.
    """

    model: Model
    unseen: DataFrame
    fold_seconds: list[tuple[float, float]]
    training_seconds: float
    cached: tuple[DataFrame, ...] = ()
    trees: int | None = None
    curves: Sequence[Sequence[tuple[float, float]]] = ()
    boosters: Boosters | None = None


CrossValidate = Callable[
    [DataFrame, str, str, Parameters, int, Sequence[int], Boosters | None], CrossValidation
]


@dataclass(frozen=True)
class Member:
    """A base model that predicts log price.

    features: the vector column it reads, `features` or `linear_features`.
    defaults: its parameters; no others are known.
    cross_validate: (rows with listing_id, fold, log_price and the vector; features column; prediction column;
        parameters; seed; folds; what a former training left to go on from, or None) -> the model of all rows,
        and predictions by those of the folds.
    """

    name: str
    features: str
    defaults: Parameters
    cross_validate: CrossValidate
