"""The boosters that a later training may go on from, as a table."""

import json
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from usedcars_assets.pipeline.boosted_folds import Boosters

_SCHEMA = (
    "fold INT, booster BINARY, curve ARRAY<STRUCT<seen DOUBLE, unseen DOUBLE>>, error DOUBLE, "
    "features ARRAY<STRING>"
)


def boosters_table(spark: SparkSession, boosters: Boosters, features: Sequence[str]) -> DataFrame:
    """A row for each fold, and one without a fold, of all rows: booster, curve, error (of all folds).

    features: what stands where in the vector of the trees.
    """
    rows = [
        (
            fold,
            bytearray(trees),
            boosters.curves[fold] if fold is not None else [],
            boosters.error,
            list(features),
        )
        for fold, trees in boosters.trees.items()
    ]
    return spark.createDataFrame(rows, _SCHEMA).coalesce(1)


def read_boosters(table: DataFrame, features: Sequence[str]) -> Boosters | None:
    """What `boosters_table` was made of, for a vector in which other features may have come between.

    None when a feature that the trees ask for is there no more.
    """
    rows = table.collect()
    places = {feature: place for place, feature in enumerate(features)}
    now = [places.get(feature) for feature in rows[0].features]
    trees = {row.fold: _moved(bytes(row.booster), now, len(features)) for row in rows}
    if not all(trees.values()):
        return None
    return Boosters(
        trees={fold: moved for fold, moved in trees.items() if moved},
        curves={
            row.fold: [(errors.seen, errors.unseen) for errors in row.curve]
            for row in rows
            if row.fold is not None
        },
        error=rows[0].error,
    )


def _moved(booster: bytes, now: Sequence[int | None], size: int) -> bytes | None:
    """The booster, its features at the places where they are now; None when one of them is gone."""
    if list(now) == list(range(size)):
        return booster
    document = json.loads(booster)
    learner: dict[str, Any] = document["learner"]
    learner["learner_model_param"]["num_feature"] = str(size)
    for tree in learner["gradient_booster"]["model"]["trees"]:
        tree["tree_param"]["num_feature"] = str(size)
        asked = [now[feature] for feature in tree["split_indices"]]
        leaves = [left == -1 for left in tree["left_children"]]
        if any(place is None and not leaf for place, leaf in zip(asked, leaves, strict=True)):
            return None
        tree["split_indices"] = [place or 0 for place in asked]
    return json.dumps(document).encode()
