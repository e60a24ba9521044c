"""Spark ML as its guide has it: a raw file, trees by GBTRegressor, three-fold cross-validation.

python benchmarks/peers/spark_notebook.py RAW.csv TEST_IDS.txt CORES
"""

import json
import sys

from notebook_columns import CATEGORIES, NUMBERS
from pyspark.ml import Pipeline
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import Imputer, OneHotEncoder, StringIndexer, VectorAssembler
from pyspark.ml.regression import GBTRegressor
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf


def main(file: str, test_ids: str, cores: int) -> None:
    spark = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.driver.memory", "8g")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "4")
        .getOrCreate()
    )
    raw = spark.read.csv(file, header=True, inferSchema=True, multiLine=True, escape='"')
    number = "replace(regexp_extract({0}, r'^\\s*([-0-9.,]+)', 1), ',', '')"
    rows = raw.select(
        sf.col("listing_id").cast("string"),
        sf.expr("try_cast(price AS DOUBLE)").alias("price"),
        *(sf.expr(f"try_cast({number.format(name)} AS DOUBLE)").alias(name) for name in NUMBERS),
        *(sf.coalesce(sf.col(name).cast("string"), sf.lit("unknown")).alias(name) for name in CATEGORIES),
    )
    rows = rows.where("price BETWEEN 500 AND 200000").dropDuplicates(["listing_id"])
    tests = spark.read.text(test_ids).withColumnRenamed("value", "listing_id")
    train = rows.join(tests, "listing_id", "left_anti").cache()
    test = rows.join(tests, "listing_id", "left_semi").cache()

    indexed = [f"{name}_index" for name in CATEGORIES]
    one_hot = [f"{name}_one_hot" for name in CATEGORIES]
    imputed = [f"{name}_imputed" for name in NUMBERS]
    gbt = GBTRegressor(labelCol="price", maxIter=100, maxDepth=6, seed=1)
    evaluator = RegressionEvaluator(labelCol="price", metricName="rmse")
    cross_validator = CrossValidator(
        estimator=gbt,
        estimatorParamMaps=ParamGridBuilder().build(),
        evaluator=evaluator,
        numFolds=3,
        parallelism=1,
        seed=1,
    )
    model = Pipeline(
        stages=[
            Imputer(inputCols=NUMBERS, outputCols=imputed),
            StringIndexer(inputCols=CATEGORIES, outputCols=indexed, handleInvalid="keep"),
            OneHotEncoder(inputCols=indexed, outputCols=one_hot),
            VectorAssembler(inputCols=[*imputed, *one_hot], outputCol="features"),
            cross_validator,
        ]
    ).fit(train)
    predicted = model.transform(test).cache()
    errors = {name: evaluator.setMetricName(name).evaluate(predicted) for name in ("rmse", "mae", "r2")}
    print(json.dumps({**errors, "test_rows": predicted.count()}))
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
