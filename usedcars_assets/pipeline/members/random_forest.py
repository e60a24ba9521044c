"""A random forest (Breiman, 2001), grown by Spark."""

from pyspark.ml import Model
from pyspark.ml.regression import RandomForestRegressor
from pyspark.sql import DataFrame

from usedcars_assets.pipeline.members.fold_by_fold import fold_by_fold
from usedcars_assets.pipeline.members.member import Member, Parameters

DEFAULTS: Parameters = {"trees": 30, "max_depth": 10, "max_bins": 64, "subsample": 0.8, "feature_share": 0.4}


def fit(rows: DataFrame, features: str, prediction: str, parameters: Parameters, seed: int) -> Model:
    """Grows the trees level by level over all rows."""
    model: Model = RandomForestRegressor(
        featuresCol=features,
        labelCol="log_price",
        predictionCol=prediction,
        numTrees=int(parameters["trees"]),
        maxDepth=int(parameters["max_depth"]),
        maxBins=int(parameters["max_bins"]),
        subsamplingRate=float(parameters["subsample"]),
        featureSubsetStrategy=str(parameters["feature_share"]),
        seed=seed,
    ).fit(rows)
    return model


MEMBER = Member("random_forest", "features", DEFAULTS, fold_by_fold(fit))
