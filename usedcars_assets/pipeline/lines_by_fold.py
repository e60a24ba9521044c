"""Lines without each of the folds, from one reading of the rows: all they need are sums by fold."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.errors import PipelineError

_RIDGE = 1e-4  # of standardised columns; enough to solve for columns that hang together
_Doubles = npt.NDArray[np.float64]
Block = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], _Doubles]
"""Of some rows the fold, the features (a row each) and the target."""


@dataclass(frozen=True)
class Line:
    """A linear model of log price."""

    coefficients: _Doubles
    intercept: float


@dataclass(frozen=True)
class Standardised:
    """Correlations of the features with each other, and their covariances with the target as it is.

    Features have mean 0 and deviation 1 then. spread: their own deviations, 0 for those that are the same
    everywhere, which correlate with nothing, or not known.
    """

    means: _Doubles
    target_mean: float
    target_spread: float
    spread: _Doubles
    correlations: _Doubles
    with_target: _Doubles

    @staticmethod
    def of(sums: _Doubles) -> "Standardised":
        """From the sums of all products of (1, features, target) over the rows."""
        means = sums[0] / sums[0, 0]
        covariance = sums / sums[0, 0] - np.outer(means, means)
        spread = without_rounding(means[1:-1], np.sqrt(np.maximum(np.diag(covariance), 0))[1:-1])
        varies = spread > 0
        scale = np.where(varies, spread, 1.0)
        return Standardised(
            means=means[1:-1],
            target_mean=float(means[-1]),
            target_spread=float(np.sqrt(max(covariance[-1, -1], 0.0))),
            spread=spread,
            correlations=np.where(
                np.outer(varies, varies), covariance[1:-1, 1:-1] / np.outer(scale, scale), 0.0
            ),
            with_target=np.where(varies, covariance[1:-1, -1] / scale, 0.0),
        )

    def line(self, coefficients: _Doubles) -> Line:
        """For the features as they are, of coefficients for the standardised ones."""
        scaled = np.divide(coefficients, self.spread, out=np.zeros_like(coefficients), where=self.spread > 0)
        return Line(scaled, float(self.target_mean - self.means @ scaled))


def without_rounding(means: _Doubles, spread: _Doubles) -> _Doubles:
    """Deviations, 0 for a column that is the same everywhere: it says nothing, and its rounding must not."""
    return np.where(spread > 1e-9 * np.maximum(1.0, np.abs(means)), spread, 0.0)


def fold_sums(blocks: Iterable[Block], folds: Sequence[int]) -> _Doubles:
    """For each fold the sums, over its rows, of all products of (1, features, target)."""
    sums: _Doubles | None = None
    for fold, features, target in blocks:
        table = np.hstack((np.ones((len(fold), 1)), features, target[:, None]))
        if sums is None:
            sums = np.zeros((len(folds), table.shape[1], table.shape[1]))
        for place, each in enumerate(folds):
            of_fold = table[fold == each]
            sums[place] += of_fold.T @ of_fold
    return np.zeros((len(folds), 0, 0)) if sums is None else sums


def sums_without_each(sums: _Doubles, folds: Sequence[int]) -> Iterator[tuple[int | None, _Doubles]]:
    """For each fold the sums of all others, and for None those of all.

    They are added, not taken from the whole, of which rounding would keep a trace of the fold.
    """
    for place, fold in enumerate(folds):
        yield fold, np.delete(sums, place, axis=0).sum(axis=0)
    yield None, sums.sum(axis=0)


def sums_by_fold(rows: DataFrame, features: str, folds: Sequence[int], target: str = "log_price") -> _Doubles:
    """`fold_sums` of a table with fold, target and the vector, which Spark reads once, in parallel.

    Those of a feature that is missing somewhere, or infinite, are no numbers.
    """
    found = (
        with_arrays(rows, features, target=target)
        .mapInArrow(partial(_sums_of_a_part, folds=tuple(folds)), "sums ARRAY<DOUBLE>")
        .collect()
    )
    sums: _Doubles = np.sum([np.array(row.sums) for row in found], axis=0)
    size = int(np.sqrt(sums.size / len(folds)))
    return sums.reshape(len(folds), size, size)


def no_line(features: str) -> PipelineError:
    """What is wrong when a line is to run through missing numbers."""
    return PipelineError(
        f"The column {features} has values that are no finite numbers, and no line runs through them: "
        "see the asset check no_missing_features, and materialise the feature tables again."
    )


def with_arrays(rows: DataFrame, features: str, *others: str, target: str = "log_price") -> DataFrame:
    """What `blocks_of` reads: fold, `target`, and the vector as an array, `features`; before them others."""
    array = vector_to_array(sf.col(features), "float32").alias("features")
    return rows.select(*others, "fold", sf.col(target).alias("target"), array)


def blocks_of(batches: Iterable[pa.RecordBatch]) -> Iterator[Block]:
    """The rows of Arrow batches of `with_arrays`."""
    return (block_of(batch) for batch in batches if len(batch))


def block_of(batch: pa.RecordBatch) -> Block:
    """The rows of one that is not empty."""
    fold, target = (batch.column(name).to_numpy(zero_copy_only=False) for name in ("fold", "target"))
    features = batch.column("features").flatten().to_numpy(zero_copy_only=False)
    return fold, features.reshape(len(batch), -1), target


def _sums_of_a_part(batches: Iterable[pa.RecordBatch], folds: Sequence[int]) -> Iterator[pa.RecordBatch]:
    sums = fold_sums(blocks_of(batches), folds)
    if sums.size:
        yield pa.RecordBatch.from_pydict({"sums": pa.array([sums.ravel()], pa.list_(pa.float64()))})


def ridge(sums: _Doubles) -> Line:
    """The line with the least squared error and small coefficients (Hoerl and Kennard, 1970).

    sums: of the products of all pairs of (1, features, target) over the rows. What is missing in them is
    missing in the line.
    """
    if not np.isfinite(sums).all():
        return Line(np.full(len(sums) - 2, np.nan), np.nan)
    standardised = Standardised.of(sums)
    penalised = standardised.correlations + _RIDGE * np.eye(len(standardised.means))
    return standardised.line(np.asarray(np.linalg.solve(penalised, standardised.with_target), np.float64))
