"""Gradient boosted trees: trained by XGBoost on Spark, served as Spark's own trees.

Chen and Guestrin, "XGBoost: a scalable tree boosting system", 2016.
"""

import logging
from typing import Any

from pyspark.ml import Model
from pyspark.sql import DataFrame, SparkSession
from xgboost.spark import SparkXGBRegressor

from usedcars_assets.pipeline.dense_vectors import dense_vectors
from usedcars_assets.pipeline.jvm_stage import in_one_stage
from usedcars_assets.pipeline.members.member import Member, Parameters
from usedcars_assets.pipeline.tree_conversion import spark_trees

# It writes its settings at INFO for every fit; they are logged with the training.
logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)

DEFAULTS: Parameters = {
    "n_estimators": 200,
    "max_depth": 6,
    "learning_rate": 0.1,
    "subsample": 0.8,
    "colsample_bytree": 0.7,
    "min_child_weight": 3.0,
    "reg_lambda": 2.0,
    "max_bin": 256,
    "num_workers": 1,
}


def fit(
    rows: DataFrame,
    features: str,
    prediction: str,
    parameters: Parameters,
    seed: int,
    *,
    target: str = "log_price",
) -> Model:
    """Trains `num_workers` XGBoost processes, each a Spark task with spark.task.cpus threads."""
    workers = int(parameters["num_workers"])
    settings: dict[str, Any] = {**parameters, "tree_method": "hist", "random_state": seed, "verbose": False}
    estimator = SparkXGBRegressor(
        features_col=features, label_col=target, prediction_col=prediction, **settings
    )
    # One partition a worker, in an order that does not depend on how the rows were read.
    in_order = rows.select("listing_id", features, target).repartition(workers, "listing_id")
    model: Model = estimator.fit(in_order.sortWithinPartitions("listing_id"))
    return model


def as_spark_trees(model: Any) -> Model:
    """The same ensemble without Python and xgboost, behind a stage that gives it dense vectors."""
    spark, booster = SparkSession.active(), model.get_booster()
    prediction = model.getOrDefault(model.predictionCol)
    dense = f"{prediction}_features"
    trees = spark_trees(
        spark,
        bytes(booster.save_raw("json")),
        features=booster.num_features(),
        features_column=dense,
        prediction_column=prediction,
    )
    features = model.getOrDefault(model.featuresCol)
    return in_one_stage(dense_vectors(spark, booster.num_features(), features, dense), trees)


MEMBER = Member("gradient_boosting", "features", DEFAULTS, fit, as_spark_trees)
