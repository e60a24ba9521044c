"""A training of few further rows adds trees to those of the former one."""

from typing import Any

import numpy as np
import pytest
import xgboost
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.boosted_folds import Boosters
from usedcars_assets.pipeline.features import FEATURE_NAMES
from usedcars_assets.pipeline.members.training import MemberResult, train_member
from usedcars_assets.pipeline.stored_boosters import boosters_table, read_boosters

NAMES = ("gradient_boosting", "residual_boosting")


def trained(
    training: Any, name: str, rows: DataFrame, former: Boosters | None, **changed: Any
) -> MemberResult:
    parameters = {**training.members[name].parameters, **changed}
    return train_member(name, rows, training.test, parameters, seed=20, former=former)


def unseen(result: MemberResult, fold: int) -> dict[str, float]:
    rows = result.out_of_fold.where(sf.col("fold") == fold).collect()
    return {row.listing_id: row[f"prediction_{result.name}"] for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_former_trees_and_is_as_good_as_a_training_anew(training: Any, name: str) -> None:
    anew = training.members[name]
    with trained(training, name, training.train.where("hash(listing_id) % 20 <> 0"), None) as former:
        boosters, trees = former.boosters, former.trees
    assert boosters is not None
    assert trees is not None

    with trained(training, name, training.train, boosters) as result:
        assert result.boosters is not None
        assert result.boosters.before == trees
        assert result.trees is not None
        assert trees < result.trees <= trees + 10
        assert result.cv_mean["rmse"] < 1.03 * anew.cv_mean["rmse"]
        assert result.test_metrics.rmse < 1.05 * anew.test_metrics.rmse
        # From the first tree on, and of the fold's own number of them.
        assert all(len(curve) > 10 for curve in result.curves)
        assert result.out_of_fold.count() == training.train.count()


@pytest.mark.parametrize("name", NAMES)
def test_a_fold_is_predicted_by_trees_that_never_saw_its_prices(training: Any, name: str) -> None:
    dearer = training.train.withColumn(
        "log_price", sf.col("log_price") + sf.when(sf.col("fold") == 1, 2.3).otherwise(0.0)
    )
    all_trees = {"early_stopping": False}  # Dearer prices would stop it at another number of trees.
    found = []
    for rows in (training.train, dearer):
        with trained(training, name, rows, None, **all_trees) as former:
            boosters = former.boosters
        assert boosters is not None
        lenient = Boosters(boosters.trees, boosters.curves, error=100.0)
        with trained(training, name, rows, lenient, **all_trees) as result:
            assert result.boosters is not None
            assert result.boosters.before == result.parameters["n_estimators"]
            found.append(unseen(result, 1))

    before, after = found
    assert after == pytest.approx(before, abs=1e-9)


def test_it_begins_anew_where_more_trees_make_the_former_ones_no_better(training: Any) -> None:
    """They are of other prices, and cannot become right with a few more."""
    name = "gradient_boosting"
    turned = training.train.withColumn("log_price", 20 - sf.col("log_price"))
    with trained(training, name, turned, None) as former:
        boosters = former.boosters

    with trained(training, name, training.train, boosters) as result:
        assert result.boosters is not None
        assert result.boosters.before == 0
        assert result.test_metrics == training.members[name].test_metrics


def test_what_is_stored_is_what_a_later_training_reads(spark: SparkSession, training: Any) -> None:
    for name in NAMES:
        boosters = training.members[name].boosters

        read = read_boosters(boosters_table(spark, boosters, ["a", "b"]), ["a", "b"])

        assert read == Boosters(boosters.trees, boosters.curves, boosters.error)
        assert set(read.trees) == {0, 1, 2, None}


def test_trees_find_their_features_where_others_have_come_between(spark: SparkSession, training: Any) -> None:
    """As when a further make becomes frequent enough for a place of its own."""
    boosters = training.members["gradient_boosting"].boosters
    names = [*map(str, FEATURE_NAMES)]
    changed = [*names[:3], "new", *names[3:]]
    rows = np.random.default_rng(4).normal(size=(200, len(names)))

    moved = read_boosters(boosters_table(spark, boosters, names), changed)

    assert moved is not None
    for fold, trees in moved.trees.items():
        before, now = (xgboost.Booster(model_file=bytearray(of)) for of in (boosters.trees[fold], trees))
        found = now.predict(xgboost.DMatrix(np.insert(rows, 3, 7.0, axis=1)))
        assert found == pytest.approx(before.predict(xgboost.DMatrix(rows)), abs=1e-9)
        assert now.num_features() == len(changed)
    assert read_boosters(boosters_table(spark, boosters, names), changed[5:]) is None
