"""What a base model is to the pipeline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyspark.ml import Model
from pyspark.sql import DataFrame

Parameters = Mapping[str, float | int | str]


@dataclass(frozen=True)
class Member:
    """A base model that predicts log price.

    features: the vector column it reads, `features` or `linear_features`.
    defaults: its parameters; no others are known.
    fit: (rows with listing_id, log_price and the vector; features column; prediction column; parameters;
        seed) -> a JVM stage that adds the prediction column.
    """

    name: str
    features: str
    defaults: Parameters
    fit: Callable[[DataFrame, str, str, Parameters, int], Model]
