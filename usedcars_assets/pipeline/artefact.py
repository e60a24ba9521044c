"""One artefact from a raw listing to its price: all of training's stages in a single Spark pipeline."""

from collections.abc import Mapping

from pyspark.ml import Model, PipelineModel
from pyspark.ml.feature import SQLTransformer, VectorAssembler
from pyspark.sql import DataFrame

from usedcars_assets.pipeline.cleaning import cleaning_stage
from usedcars_assets.pipeline.stacking import LOG_PRICE_PREDICTION, MEMBER_PREDICTIONS, StackResult


def assemble_artefact(
    feature_pipeline: PipelineModel, members: Mapping[str, Model], stack: StackResult
) -> PipelineModel:
    """The pipeline that is registered, made of JVM stages only, so that any Spark loads and runs it.

    A member without weight is not in it: no price depends on it, and each takes its time of every request.

    In: STRING column `listing`, a JSON object with the raw column names. Out: all columns of the input, price
    DOUBLE (USD, null when rejected), price_low and price_high DOUBLE (USD, around 90 % of the true prices,
    null when rejected), rejection STRING (null, or the code of the first rule broken), rejection_field STRING
    (the raw field at fault), prediction DOUBLE (the price again: the only column that `mlflow.pyfunc` and
    `mlflow models serve` give), and the intermediate columns.
    """
    names = stack.served_members
    kept_inside = (f"{stack.bounds.sql(f'prediction_{name}')} AS bounded_{name}" for name in names)
    bounded = SQLTransformer(statement=f"SELECT *, {', '.join(kept_inside)} FROM __THIS__")  # noqa: S608
    predictions = VectorAssembler(
        inputCols=[f"bounded_{name}" for name in names], outputCol=MEMBER_PREDICTIONS, handleInvalid="keep"
    )
    priced = f"exp({LOG_PRICE_PREDICTION}) * {stack.smearing!r}D"
    low, high = stack.intervals.sql(LOG_PRICE_PREDICTION, priced)
    values = {"price": priced, "price_low": low, "price_high": high, "prediction": priced}
    in_usd = (f"CASE WHEN rejection IS NULL THEN {value} END AS {name}" for name, value in values.items())
    to_usd = SQLTransformer(statement=f"SELECT *, {', '.join(in_usd)} FROM __THIS__")  # noqa: S608
    return PipelineModel(
        [
            cleaning_stage(),
            *feature_pipeline.stages,
            *(members[name] for name in names),
            bounded,
            predictions,
            stack.model,
            to_usd,
        ]
    )


def score_listings(artefact: PipelineModel, listings: DataFrame) -> DataFrame:
    """The columns of `listings` (with `listing`), price, rejection and rejection_field."""
    return artefact.transform(listings).select(*listings.columns, "price", "rejection", "rejection_field")
