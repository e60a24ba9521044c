"""Linear regression with an elastic net penalty (Zou and Hastie, 2005)."""

from pyspark.ml import Model
from pyspark.ml.regression import LinearRegression
from pyspark.sql import DataFrame

from usedcars_assets.pipeline.members.fold_by_fold import fold_by_fold
from usedcars_assets.pipeline.members.member import Member, Parameters

DEFAULTS: Parameters = {"regularization": 1e-4, "l1_share": 0.5, "max_iterations": 200}


def fit(rows: DataFrame, features: str, prediction: str, parameters: Parameters, seed: int) -> Model:
    """Solves it from one pass over the rows; the seed is not needed."""
    model: Model = LinearRegression(
        featuresCol=features,
        labelCol="log_price",
        predictionCol=prediction,
        regParam=float(parameters["regularization"]),
        elasticNetParam=float(parameters["l1_share"]),
        maxIter=int(parameters["max_iterations"]),
        solver="normal",
    ).fit(rows)
    return model


MEMBER = Member("elastic_net", "linear_features", DEFAULTS, fold_by_fold(fit))
