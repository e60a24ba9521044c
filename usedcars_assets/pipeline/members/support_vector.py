"""Linear support vector regression on Spark's linear support vector classifier.

Bi and Bennett, "A geometric approach to support vector regression", Neurocomputing 55, 2003: shift the target
up and down by epsilon, append it to the features, separate the two copies by a maximal margin; the separating
plane w·x + v·y + b = 0 is the regression y = -(w·x + b) / v.
"""

from pyspark.ml import Model
from pyspark.ml.classification import LinearSVC
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.errors import PipelineError
from usedcars_assets.pipeline.linear_models import linear_model
from usedcars_assets.pipeline.members.fold_by_fold import fold_by_fold
from usedcars_assets.pipeline.members.member import Member, Parameters
from usedcars_assets.pipeline.thinned_rows import thinned

# A plane in some 150 dimensions is found from far fewer rows than a large training has, and each iteration
# passes over all of them: more than `most_rows` are thinned out evenly.
DEFAULTS: Parameters = {
    "epsilon": 0.2,
    "regularization": 1e-2,
    "max_iterations": 20,
    "tolerance": 1e-3,
    "most_rows": 10_000,
}

_ROWS_A_PARTITION = 50_000


def fit(rows: DataFrame, features: str, prediction: str, parameters: Parameters, seed: int) -> Model:
    """Separates the rows' copies shifted by `epsilon` (in log price); the seed picks the rows."""
    epsilon = float(parameters["epsilon"])
    copies = thinned(rows, int(parameters["most_rows"]), f"thin {seed}").select(
        features,
        sf.inline(
            sf.array(
                *(
                    sf.struct(
                        (sf.col("log_price") + sign * epsilon).alias("shifted"), sf.lit(label).alias("label")
                    )
                    for sign, label in ((1, 1.0), (-1, 0.0))
                )
            )
        ),
    )
    # Each of some fifty passes is a job: its cost is that of its tasks' start, unless there are many rows.
    partitions = 1 + int(parameters["most_rows"]) // _ROWS_A_PARTITION
    # The target goes first: its coefficient is then found without knowing the length of the vector.
    joined = VectorAssembler(inputCols=["shifted", features], outputCol="copy", handleInvalid="keep")
    plane = LinearSVC(
        featuresCol="copy",
        maxIter=int(parameters["max_iterations"]),
        regParam=float(parameters["regularization"]),
        tol=float(parameters["tolerance"]),
    ).fit(joined.transform(copies.coalesce(partitions)))
    weights = plane.coefficients.toArray()
    if not weights[0] > 0:
        raise PipelineError(
            f"Support vector regression found no plane that rises with the price (slope {weights[0]:.3g}): "
            "lower its regularization, or raise its epsilon or max_iterations."
        )
    return linear_model(
        rows.sparkSession, -weights[1:] / weights[0], -plane.intercept / weights[0], features, prediction
    )


MEMBER = Member("support_vector", "linear_features", DEFAULTS, fold_by_fold(fit))
