"""Boosted trees of what a linear model leaves.

The line finds what adds up in log price, over the whole range and beyond it; trees, which would cut that into
steps, are left with what does not. After Zhang, Nettleton and Zhu, "Regression-enhanced random forests", 2017
(https://arxiv.org/abs/1904.10416), with boosting in place of the forest.
"""

from collections.abc import Sequence

from pyspark.ml.feature import SQLTransformer
from pyspark.sql import DataFrame

from usedcars_assets.pipeline.boosted_folds import Boosters
from usedcars_assets.pipeline.jvm_stage import in_one_stage
from usedcars_assets.pipeline.linear_models import linear_model
from usedcars_assets.pipeline.members import gradient_boosting
from usedcars_assets.pipeline.members.member import CrossValidation, Member, Parameters


def cross_validate(
    rows: DataFrame,
    features: str,
    prediction: str,
    parameters: Parameters,
    seed: int,
    folds: Sequence[int],
    former: Boosters | None = None,
) -> CrossValidation:
    """A line and trees for each fold; the parameters are those of the trees."""
    boosted = gradient_boosting.boosted_on(rows, features, folds, parameters, seed, former, on_a_line=True)
    spark, line = rows.sparkSession, boosted.line
    assert line is not None  # noqa: S101  narrows the type of what was asked for
    of_line, of_trees = f"{prediction}_of_line", f"{prediction}_of_trees"
    together = SQLTransformer(
        statement=f"SELECT *, {of_line} + {of_trees} AS {prediction} FROM __THIS__"  # noqa: S608 (own names)
    )
    model = in_one_stage(
        linear_model(spark, line.coefficients, line.intercept, features, of_line),
        gradient_boosting.served_trees(spark, boosted.booster, features, of_trees),
        together,
    )
    return gradient_boosting.as_cross_validation(boosted, model, prediction)


# Of what a line leaves the trade knows nothing.
DEFAULTS: Parameters = {
    name: value for name, value in gradient_boosting.DEFAULTS.items() if name != "monotone"
}

MEMBER = Member("residual_boosting", "linear_features", DEFAULTS, cross_validate)
