"""What a base model is to the pipeline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.ml import Model
from pyspark.sql import DataFrame

Parameters = Mapping[str, float | int | str]


@dataclass(frozen=True)
class CrossValidation:
    """A base model trained on all rows, and what models without their fold say of these.

    model: JVM stage that adds the prediction column.
    unseen: listing_id and the prediction column, cached; `cached` are the tables to be freed after it.
    fold_seconds: what each fold's model took to train, and to predict the rows of its fold.
    trees: how many a boosted model came to have; curves: of each fold, after each tree the errors of the rows
        seen and not seen (RMSE of log price). None and empty for others.
    """

    model: Model
    unseen: DataFrame
    fold_seconds: list[tuple[float, float]]
    training_seconds: float
    cached: tuple[DataFrame, ...] = ()
    trees: int | None = None
    curves: Sequence[Sequence[tuple[float, float]]] = ()


CrossValidate = Callable[[DataFrame, str, str, Parameters, int, Sequence[int]], CrossValidation]


@dataclass(frozen=True)
class Member:
    """A base model that predicts log price.

    features: the vector column it reads, `features` or `linear_features`.
    defaults: its parameters; no others are known.
    cross_validate: (rows with listing_id, fold, log_price and the vector; features column; prediction column;
        parameters; seed; folds) -> the model of all rows, and predictions by those of the folds.
    """

    name: str
    features: str
    defaults: Parameters
    cross_validate: CrossValidate
