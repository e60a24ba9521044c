"""How the training rows are distributed, feature by feature: what live requests are compared with."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from pyspark.ml.feature import SQLTransformer
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.thinned_rows import thinned

_DECILES = ", ".join(f"{place / 10}" for place in range(1, 10))
_MOST_CATEGORIES = 20
# A tenth of so many rows is known to a fifth of a percent: no drift worth an alarm is as small.
MOST_ROWS = 20_000


@dataclass(frozen=True)
class BinnedFeature:
    """A feature, its bins by name, the SQL for a row's bin, and how many training rows lie in each."""

    name: str
    labels: tuple[str, ...]
    sql: str
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrainingDistribution:
    """The binned features, and the statements from `listing` (JSON) to `bins`, an array of bin numbers."""

    features: tuple[BinnedFeature, ...]
    statements: tuple[str, ...]

    def document(self) -> Mapping[str, Any]:
        """What is stored with the model, and read by who serves it."""
        return {
            "statements": list(self.statements),
            "features": [
                {"name": feature.name, "labels": list(feature.labels), "counts": list(feature.counts)}
                for feature in self.features
            ],
        }


def training_distribution(
    derived: DataFrame,
    numbers: Mapping[str, str],
    categories: Sequence[str],
    stages: Iterable[SQLTransformer],
) -> TrainingDistribution:
    """Bins of the training rows: numbers by their deciles, categories by the most frequent values.

    derived: the rows, of which some MOST_ROWS are taken, always the same ones; numbers: feature to column;
    categories: columns. What is missing is a bin of its own.
    stages: those that make these columns, and `rejection`, of a raw listing.
    """
    derived = thinned(derived, MOST_ROWS, "distribution")
    bins = [*_number_bins(derived, numbers), *_category_bins(derived, categories)]
    statement = f"SELECT array({', '.join(bin_.sql for bin_ in bins)}) AS bins FROM __THIS__"  # noqa: S608
    rows = (
        SQLTransformer(statement=statement)
        .transform(derived)
        # Not the inner one, from which Spark infers a filter and repeats in it all that the bins are made of.
        .select(sf.posexplode_outer("bins").alias("feature", "bin"))
        .groupBy("feature", "bin")
        .count()
        .collect()
    )
    counts = {(row["feature"], row["bin"]): row["count"] for row in rows}
    return TrainingDistribution(
        features=tuple(
            replace(
                feature,
                counts=tuple(counts.get((place, number), 0) for number in range(len(feature.labels))),
            )
            for place, feature in enumerate(bins)
        ),
        statements=(
            *(str(stage.getStatement()) for stage in stages),
            "SELECT * FROM __THIS__ WHERE rejection IS NULL",
            statement,
        ),
    )


def _number_bins(derived: DataFrame, numbers: Mapping[str, str]) -> list[BinnedFeature]:
    """The least value is an edge as well, so that a flag that is rarely off has a bin for it."""
    (row,) = derived.selectExpr(
        *(
            f"array_prepend(percentile_approx({column}, array({_DECILES}), 1000), min({column})) AS {name}"
            for name, column in numbers.items()
        )
    ).collect()
    return [_number(name, column, sorted(set(row[name] or ()) - {None})) for name, column in numbers.items()]


def _number(name: str, column: str, edges: Sequence[float]) -> BinnedFeature:
    above = " + ".join(f"CAST({column} > {edge!r}D AS INT)" for edge in edges) or "0"
    if edges:
        between = (f"{low:g} to {high:g}" for low, high in pairwise(edges))
        labels = (f"up to {edges[0]:g}", *between, f"above {edges[-1]:g}")
    else:
        labels = ("known",)
    sql = f"CASE WHEN {column} IS NULL THEN {len(labels)} ELSE {above} END"
    return BinnedFeature(name, (*labels, "missing"), sql)


def _category_bins(derived: DataFrame, categories: Sequence[str]) -> list[BinnedFeature]:
    values = ", ".join(f"struct('{column}' AS feature, {column} AS value)" for column in categories)
    most_frequent = Window.partitionBy("feature").orderBy(sf.desc("count"), "value")
    rows = (
        derived.selectExpr(f"inline(array({values}))")
        .where("value IS NOT NULL")
        .groupBy("feature", "value")
        .count()
        .withColumn("place", sf.row_number().over(most_frequent))
        .where(sf.col("place") <= _MOST_CATEGORIES)
        .orderBy("feature", "place")
        .collect()
    )
    return [
        _category(column, [str(row["value"]) for row in rows if row["feature"] == column])
        for column in categories
    ]


def _category(column: str, values: Sequence[str]) -> BinnedFeature:
    cases = " ".join(f"WHEN {column} = {_literal(value)} THEN {n}" for n, value in enumerate(values))
    missing = f"WHEN {column} IS NULL THEN {len(values) + 1}"
    sql = f"CASE {missing} {cases} ELSE {len(values)} END"
    return BinnedFeature(column, (*values, "other", "missing"), sql)


def _literal(text: str) -> str:
    """A string in Spark's SQL, whatever the text of a raw file is."""
    return f"decode(unhex('{text.encode().hex()}'), 'UTF-8')"
