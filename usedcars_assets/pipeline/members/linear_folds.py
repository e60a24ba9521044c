"""Cross-validation of a linear model whose lines are known."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyspark.ml.regression import LinearRegressionModel
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.linear_models import linear_model
from usedcars_assets.pipeline.lines_by_fold import Line
from usedcars_assets.pipeline.members.member import CrossValidation


class TimedLine(NamedTuple):
    """A line and what it took to find it."""

    line: Line
    seconds: float


def cross_validated(
    rows: DataFrame,
    features: str,
    prediction: str,
    folds: Sequence[int],
    lines: Mapping[int | None, TimedLine],
) -> CrossValidation:
    """lines: by fold that of the other rows, by None that of all rows."""

    def model(fold: int | None, column: str) -> LinearRegressionModel:
        line = lines[fold].line
        return linear_model(rows.sparkSession, line.coefficients, line.intercept, features, column)

    start = time.monotonic()
    scored, chosen = rows, sf.lit(None).cast("double")
    for fold in folds:
        scored = model(fold, f"without_{fold}").transform(scored)
        # Of several columns Spark computes the one that a row takes.
        chosen = sf.when(sf.col("fold") == fold, sf.col(f"without_{fold}")).otherwise(chosen)
    unseen = scored.select("listing_id", chosen.alias(prediction)).persist()
    try:
        unseen.count()
    except BaseException:
        unseen.unpersist()
        raise
    each = (time.monotonic() - start) / len(folds)
    return CrossValidation(
        model=model(None, prediction),
        unseen=unseen,
        fold_seconds=[(lines[fold].seconds, each) for fold in folds],
        training_seconds=lines[None].seconds,
        cached=(unseen,),
    )
