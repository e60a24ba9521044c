"""Linear regression with an elastic net penalty (Zou and Hastie, 2005)."""

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame

from usedcars_assets.pipeline.boosted_folds import Boosters
from usedcars_assets.pipeline.lines_by_fold import (
    Line,
    Standardised,
    no_line,
    sums_by_fold,
    sums_without_each,
)
from usedcars_assets.pipeline.members.linear_folds import TimedLine, cross_validated
from usedcars_assets.pipeline.members.member import CrossValidation, Member, Parameters

DEFAULTS: Parameters = {"regularization": 1e-4, "l1_share": 0.5, "max_iterations": 10_000}

_LEAST_SPREAD = 1e-12  # of a direction, as part of the largest: below it is rounding


def cross_validate(
    rows: DataFrame,
    features: str,
    prediction: str,
    parameters: Parameters,
    seed: int,
    folds: Sequence[int],
    _: Boosters | None = None,  # all are solved anew
) -> CrossValidation:
    """Lines of all folds from one pass over the rows; the seed is not needed."""
    start = time.monotonic()
    sums = sums_by_fold(rows, features, folds)
    if not np.isfinite(sums).all():
        raise no_line(features)
    reading = time.monotonic() - start
    lines = {}
    for fold, of_others in sums_without_each(sums, folds):
        start = time.monotonic()
        line = elastic_net(of_others, parameters)
        lines[fold] = TimedLine(line, time.monotonic() - start + (reading if fold is None else 0))
    return cross_validated(rows, features, prediction, folds, lines)


def elastic_net(sums: npt.NDArray[np.float64], parameters: Parameters) -> Line:
    """The line of least error with the penalties on coefficients of standardised features.

    sums: of the products of all pairs of (1, features, target) over the rows.
    """
    from sklearn.linear_model import ElasticNet

    standardised = Standardised.of(sums)
    # As many rows as features, with the correlations of all rows: whatever the coefficients, the error on
    # them differs from that on all rows by the same.
    spreads, directions = np.linalg.eigh(standardised.correlations)
    kept = spreads > _LEAST_SPREAD * max(spreads.max(), 1)
    roots = np.sqrt(spreads[kept] * kept.sum())
    rows = roots[:, None] * directions[:, kept].T
    target = directions[:, kept].T @ standardised.with_target * kept.sum() / roots
    solver = ElasticNet(
        alpha=float(parameters["regularization"]),
        l1_ratio=float(parameters["l1_share"]),
        max_iter=int(parameters["max_iterations"]),
        fit_intercept=False,
    )
    return standardised.line(solver.fit(rows, target).coef_)


MEMBER = Member("elastic_net", "linear_features", DEFAULTS, cross_validate)
