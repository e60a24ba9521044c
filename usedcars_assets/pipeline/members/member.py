"""What a base model is to the pipeline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyspark.ml import Model
from pyspark.sql import DataFrame

Parameters = Mapping[str, float | int | str]


def _as_it_is(model: Model) -> Model:
    return model


@dataclass(frozen=True)
class Member:
    """A base model that predicts log price.

    features: the vector column it reads, `features` or `linear_features`.
    defaults: its parameters; no others are known.
    fit: (rows with listing_id, log_price and the vector; features column; prediction column; parameters;
        seed) -> a model that adds the prediction column.
    served: that model as a JVM stage; only the one that is kept has to become one.
    """

    name: str
    features: str
    defaults: Parameters
    fit: Callable[[DataFrame, str, str, Parameters, int], Model]
    served: Callable[[Model], Model] = _as_it_is
