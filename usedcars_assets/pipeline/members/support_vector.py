"""Linear support vector regression.

Ho and Lin, "Large-scale linear support vector regression", JMLR 13, 2012: dual coordinate descent, as in
LIBLINEAR.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from usedcars_assets.pipeline.boosted_folds import Boosters
from usedcars_assets.pipeline.lines_by_fold import Line, blocks_of, no_line, with_arrays, without_rounding
from usedcars_assets.pipeline.members.linear_folds import TimedLine, cross_validated
from usedcars_assets.pipeline.members.member import CrossValidation, Member, Parameters
from usedcars_assets.pipeline.thinned_rows import thinned

# A plane in some 150 dimensions is found from far fewer rows than a large training has: more than
# `most_rows` are thinned out evenly.
DEFAULTS: Parameters = {
    "epsilon": 0.05,
    "regularization": 2e-2,
    "max_iterations": 200,
    "tolerance": 1e-2,
    "most_rows": 20_000,
}


def cross_validate(
    rows: DataFrame,
    features: str,
    prediction: str,
    parameters: Parameters,
    seed: int,
    folds: Sequence[int],
    _: Boosters | None = None,  # all are solved anew
) -> CrossValidation:
    """Planes of all folds from one reading of rows that the seed picks; `epsilon` is in log price."""
    few = thinned(rows, int(parameters["most_rows"]), f"thin {seed}")
    solve = partial(_planes, folds=tuple(folds), parameters=dict(parameters), seed=seed)
    found = (
        with_arrays(few, features)
        .coalesce(1)
        .mapInArrow(solve, "fold INT, coefficients ARRAY<DOUBLE>, intercept DOUBLE, seconds DOUBLE")
        .collect()
    )
    if not found:
        raise no_line(features)
    lines = {
        row.fold: TimedLine(Line(np.array(row.coefficients), row.intercept), row.seconds) for row in found
    }
    return cross_validated(rows, features, prediction, folds, lines)


def _planes(
    batches: Iterable[pa.RecordBatch], folds: Sequence[int], parameters: Parameters, seed: int
) -> Iterator[pa.RecordBatch]:
    """One Python task: the plane without each of the folds, and that of all rows."""
    from sklearn.svm import LinearSVR

    fold, features, target = (np.concatenate(part) for part in zip(*blocks_of(batches), strict=True))
    if not np.isfinite(features).all():
        return
    means, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    spread = without_rounding(means, spread)
    scale = np.where(spread > 0, spread, 1.0)
    standardised = (features - means) / scale
    for held_out in (*folds, None):
        start = time.monotonic()
        seen = np.full(len(fold), True) if held_out is None else fold != held_out
        level = target[seen].mean()
        solver = LinearSVR(
            epsilon=float(parameters["epsilon"]),
            # LIBLINEAR weighs the sum of the errors against the penalty, and not their mean.
            C=1.0 / (float(parameters["regularization"]) * seen.sum()),
            tol=float(parameters["tolerance"]),
            max_iter=int(parameters["max_iterations"]),
            random_state=seed,
        ).fit(standardised[seen], target[seen] - level)
        coefficients = solver.coef_ / scale
        intercept = level + float(solver.intercept_[0]) - float(means @ coefficients)
        yield pa.RecordBatch.from_pydict(
            {
                "fold": pa.array([held_out], pa.int32()),
                "coefficients": pa.array([coefficients], pa.list_(pa.float64())),
                "intercept": pa.array([intercept], pa.float64()),
                "seconds": pa.array([time.monotonic() - start], pa.float64()),
            }
        )


MEMBER = Member("support_vector", "linear_features", DEFAULTS, cross_validate)
