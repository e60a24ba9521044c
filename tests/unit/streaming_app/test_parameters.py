"""Two versions of a model have one code, and each its own numbers."""

from pyspark.ml import PipelineModel
from pyspark.ml.feature import Imputer, SQLTransformer
from pyspark.sql import DataFrame, SparkSession

from streaming_app.serving_query import optimised
from streaming_app.succession import compilations

STATEMENT = """
    SELECT *, CAST(FACTOR AS DOUBLE) * year + IF(year > FACTORD, 0.5D, 1D) AS price,
        datediff(coalesce(listed, DATE'SINCE'), DATE'2020-01-01') AS days
    FROM __THIS__
"""


def model(spark: SparkSession, *, factor: float, since: str, middle: float) -> PipelineModel:
    """Of the kinds of numbers that a training learns: of a statement, a date, and a median."""
    statement = STATEMENT.replace("FACTOR", str(factor)).replace("SINCE", since)
    learned = spark.createDataFrame([(middle,)], "miles double")
    imputer = Imputer(inputCol="miles", outputCol="all_miles", strategy="median").fit(learned)
    return PipelineModel([SQLTransformer(statement=statement), imputer])


def listings(spark: SparkSession) -> DataFrame:
    return spark.range(4, numPartitions=1).selectExpr(
        "CAST(id + 2010 AS DOUBLE) AS year",
        "IF(id % 2 = 0, DATE'2020-05-05', NULL) AS listed",
        "IF(id = 1, CAST(id AS DOUBLE), NULL) AS miles",
    )


def test_a_version_with_other_numbers_is_answered_by_the_code_of_the_former_and_by_its_own_numbers(
    spark: SparkSession,
) -> None:
    former = model(spark, factor=1.25, since="2020-09-14", middle=30_000.0)
    later = model(spark, factor=2011.0, since="2021-02-28", middle=28_500.5)
    plans = [version.transform(listings(spark)) for version in (former, later)]

    found = [optimised(plans[0]).collect()]
    before = compilations(spark)
    found.append(optimised(plans[1]).collect())

    assert compilations(spark) == before
    assert found == [plan.collect() for plan in plans]
    assert found[0] != found[1]


def test_numbers_of_other_kinds_are_spelled_out(spark: SparkSession) -> None:
    plan = optimised(
        listings(spark).selectExpr("year + 1D", "year + 2", "round(year, 1)", "CAST(NULL AS DOUBLE)")
    )
    told = str(plan._jdf.queryExecution().optimizedPlan().toString())

    assert plan.collect()[0] == (2011.0, 2012.0, 2010.0, None)
    assert told.lower().count("parameter") == 2
