"""Input drift: how far the live requests are from the rows that the model in service was trained on.

For each feature the population stability index between the training rows and the requests of the last
minutes: the sum over bins of (live - trained) * ln(live / trained), in shares. By custom below 0.1 nothing
has moved and above 0.25 much has (N. Siddiqi, Credit Risk Scorecards, 2006). Requests drawn from the training
rows themselves would have (bins - 1) / requests on average (Yurdakul and Naranjo, Statistical Properties of
the Population Stability Index, 2020), so that too few requests say nothing.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from streaming_app.jvm_stages import sql_stage
from streaming_app.messages import requests_to_answer

_HALF_A_ROW = 0.5  # in each bin, so that an empty one is no division by nothing


@dataclass(frozen=True)
class Feature:
    """The bins of a feature and the training rows in each."""

    name: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class TrainingDistribution:
    """What a model version says of its training rows; the statements lead from `listing` to `bins`."""

    features: tuple[Feature, ...]
    statements: tuple[str, ...]

    @classmethod
    def read(cls, document: str) -> "TrainingDistribution":
        """Read what is stored with the model. Raises ValueError when it is something else."""
        try:
            content = json.loads(document)
            features = tuple(
                Feature(str(each["name"]), tuple(map(str, each["labels"])), tuple(map(int, each["counts"])))
                for each in content["features"]
            )
            statements = tuple(map(str, content["statements"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no training distribution: {error}") from error
        if any(len(feature.labels) != len(feature.counts) for feature in features):
            raise ValueError("no training distribution: a feature has other bins than counts")
        return cls(features, statements)


@dataclass(frozen=True)
class FeatureDrift:
    """How far a feature has moved, and the bin that moved most, with its shares then and now."""

    name: str
    index: float
    bin: str
    trained_share: float
    live_share: float


def count_live(
    messages: DataFrame, trained: TrainingDistribution, max_bytes: int
) -> tuple[int, list[list[int]]]:
    """Sort raw Kafka records into the bins: the number of requests, and by feature and bin.

    What is no valid request, or rejected by the model's rules, is passed over.
    """
    counts = [[0] * len(feature.counts) for feature in trained.features]
    for row in bin_counts(messages, trained, max_bytes).collect():
        counts[row["feature"]][row["bin"]] = row["count"]
    return (sum(counts[0]) if counts else 0), counts


def bin_counts(messages: DataFrame, trained: TrainingDistribution, max_bytes: int) -> DataFrame:
    """The plan of it: columns feature and bin, by number, and count."""
    rows = requests_to_answer(messages, max_bytes).where("request.problem IS NULL").select("listing")
    for statement in trained.statements:
        rows = sql_stage(rows.sparkSession, statement).transform(rows)
    # From an inner explode Spark infers a filter of its own, and moves it below all rules, which it repeats
    # there wherever one uses another: ten times the work, and a plan of 400 MB.
    exploded = rows.select(sf.posexplode_outer("bins").alias("feature", "bin"))
    return exploded.groupBy("feature", "bin").count().where("feature IS NOT NULL")


def drift(trained: TrainingDistribution, live: Sequence[Sequence[int]]) -> list[FeatureDrift]:
    """The drift of each feature, the largest first."""
    return sorted(
        (_drift(feature, counts) for feature, counts in zip(trained.features, live, strict=True)),
        key=lambda found: (-found.index, found.name),
    )


def _drift(feature: Feature, live: Sequence[int]) -> FeatureDrift:
    before, now = _shares(feature.counts), _shares(live)
    parts = [(b - a) * math.log(b / a) for a, b in zip(before, now, strict=True)]
    most = max(range(len(parts)), key=parts.__getitem__)
    return FeatureDrift(feature.name, sum(parts), feature.labels[most], before[most], now[most])


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + _HALF_A_ROW * len(counts)
    return [(count + _HALF_A_ROW) / total for count in counts]
