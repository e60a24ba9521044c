"""Boosted trees of what a linear model leaves.

The line finds what adds up in log price, over the whole range and beyond it; trees, which would cut that into
steps, are left with what does not. After Zhang, Nettleton and Zhu, "Regression-enhanced random forests", 2017
(https://arxiv.org/abs/1904.10416), with boosting in place of the forest.
"""

from typing import Any

from pyspark.ml import Model, PipelineModel
from pyspark.ml.feature import SQLTransformer
from pyspark.sql import DataFrame

from usedcars_assets.pipeline.jvm_stage import in_one_stage
from usedcars_assets.pipeline.members import elastic_net, gradient_boosting
from usedcars_assets.pipeline.members.member import Member, Parameters


def fit(rows: DataFrame, features: str, prediction: str, parameters: Parameters, seed: int) -> Model:
    """Fits the line with the elastic net's defaults, then the trees, whose parameters these are."""
    of_line, of_trees, target = (f"{prediction}_{part}" for part in ("of_line", "of_trees", "target"))
    line = elastic_net.fit(rows, features, of_line, elastic_net.DEFAULTS, seed)
    left = line.transform(rows).selectExpr("*", f"log_price - {of_line} AS {target}")
    trees = gradient_boosting.fit(left, features, of_trees, parameters, seed, target=target)
    together = SQLTransformer(
        statement=f"SELECT *, {of_line} + {of_trees} AS {prediction} FROM __THIS__"  # noqa: S608 (own names)
    )
    return PipelineModel([line, trees, together])


def as_jvm_stage(model: Any) -> Model:
    """The same, its trees without Python and xgboost."""
    line, trees, together = model.stages
    return in_one_stage(line, gradient_boosting.as_spark_trees(trees), together)


MEMBER = Member("residual_boosting", "linear_features", gradient_boosting.DEFAULTS, fit, as_jvm_stage)
