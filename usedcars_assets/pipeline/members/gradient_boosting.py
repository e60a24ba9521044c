"""Gradient boosted trees: trained by XGBoost, served as Spark's own trees.

Chen and Guestrin, "XGBoost: a scalable tree boosting system", 2016.
"""

import json
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession

from usedcars_assets.pipeline.boosted_folds import BoostedFolds, Boosters, boost_folds
from usedcars_assets.pipeline.dense_vectors import dense_vectors
from usedcars_assets.pipeline.jvm_stage import JvmStage, in_one_stage
from usedcars_assets.pipeline.members.member import CrossValidation, Member, Parameters
from usedcars_assets.pipeline.tree_conversion import spark_trees

DEFAULTS: Parameters = {
    "n_estimators": 80,
    "early_stopping": True,
    "monotone": True,
    "max_leaves": 64,
    "max_depth": 12,
    "learning_rate": 0.18,
    "subsample": 0.9,
    "colsample_bytree": 0.5,
    "min_child_weight": 3.0,
    "reg_lambda": 2.0,
    "max_bin": 256,
    "num_workers": 1,
}


# Of the error of a former training, by which one that goes on from it may be larger.
_MOST_WORSE = 0.005


def cross_validate(
    rows: DataFrame,
    features: str,
    prediction: str,
    parameters: Parameters,
    seed: int,
    folds: Sequence[int],
    former: Boosters | None = None,
) -> CrossValidation:
    """Trees of the log price."""
    boosted = boosted_on(rows, features, folds, parameters, seed, former)
    model = served_trees(rows.sparkSession, boosted.booster, features, prediction)
    return as_cross_validation(boosted, model, prediction)


def boosted_on(
    rows: DataFrame,
    features: str,
    folds: Sequence[int],
    parameters: Parameters,
    seed: int,
    former: Boosters | None,
    *,
    on_a_line: bool = False,
) -> BoostedFolds:
    """Trees added to the former ones, where that is not worse than those were; else all are new."""
    if former:
        found = boost_folds(rows, features, folds, parameters, seed, on_a_line=on_a_line, former=former)
        if found.boosters.error <= former.error * (1 + _MOST_WORSE):
            return found
    return boost_folds(rows, features, folds, parameters, seed, on_a_line=on_a_line)


def as_cross_validation(boosted: BoostedFolds, model: JvmStage, prediction: str) -> CrossValidation:
    """What was boosted, with the model of all rows as it is served."""
    return CrossValidation(
        model=model,
        unseen=boosted.unseen.withColumnRenamed("prediction", prediction),
        fold_seconds=boosted.fold_seconds,
        training_seconds=boosted.training_seconds,
        trees=boosted.trees,
        curves=boosted.curves,
        boosters=boosted.boosters,
    )


def served_trees(spark: SparkSession, booster: bytes, features: str, prediction: str) -> JvmStage:
    """XGBoost's ensemble without Python and xgboost, behind a stage that gives it dense vectors."""
    size = int(json.loads(booster)["learner"]["learner_model_param"]["num_feature"])
    dense = f"{prediction}_features"
    trees = spark_trees(spark, booster, features=size, features_column=dense, prediction_column=prediction)
    return in_one_stage(dense_vectors(spark, size, features, dense), trees)


MEMBER = Member("gradient_boosting", "features", DEFAULTS, cross_validate)
