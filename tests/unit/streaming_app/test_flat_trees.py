"""Trees in another layout price as those they were made of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pyspark.errors import UnsupportedOperationException
from pyspark.ml import Pipeline
from pyspark.ml.feature import VectorAssembler, VectorIndexer
from pyspark.ml.linalg import DenseVector, SparseVector, Vector
from pyspark.ml.regression import GBTRegressor
from pyspark.sql import DataFrame, SparkSession

from streaming_app.flat_trees import lay_trees_flat
from streaming_app.jvm_stages import JvmStage, load_pipeline

FEATURES = 5


def rows(spark: SparkSession, vectors: Sequence[Vector]) -> DataFrame:
    return spark.createDataFrame(
        [(vector, float(place)) for place, vector in enumerate(vectors)], ["features", "price"]
    )


@pytest.fixture(scope="module")
def saved(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pipeline in a pipeline; 7 trees of several depths, which four at a time do not share evenly."""
    drawn = np.random.default_rng(5).normal(size=(400, FEATURES))
    target = drawn[:, 0] * 3 + np.where(drawn[:, 1] > 0, drawn[:, 2], -1.0)
    data = spark.createDataFrame(
        [(DenseVector(x), float(y)) for x, y in zip(drawn, target, strict=True)], ["features", "price"]
    )
    boosted = GBTRegressor(
        labelCol="price", maxIter=7, maxDepth=4, stepSize=0.3, minInstancesPerNode=15, seed=1
    )
    assembler = VectorAssembler(inputCols=["prediction"], outputCol="predictions")
    model = Pipeline(stages=[Pipeline(stages=[boosted]), assembler]).fit(data)
    path = str(tmp_path_factory.mktemp("models") / "boosted")
    model._to_java().save(path)
    return path


def laid_flat(spark: SparkSession, path: str) -> JvmStage:
    pipeline = load_pipeline(spark, path)
    lay_trees_flat(spark, pipeline)
    return pipeline


def boosted(pipeline: JvmStage) -> JvmStage:
    return JvmStage(pipeline.in_jvm.stages()[0].stages()[0])


def predictions(stage: JvmStage, data: DataFrame) -> list[float]:
    return [row["prediction"] for row in stage.transform(data).orderBy("price").collect()]


def thresholds(stage: JvmStage) -> list[tuple[int, float]]:
    """Feature and threshold of each tree's first split."""
    firsts = [stage.in_jvm.getTree(tree).rootNode().split() for tree in range(stage.in_jvm.getNumTrees())]
    return [(split.featureIndex(), split.threshold()) for split in firsts]


def test_the_prices_are_the_same_to_the_last_digit_on_any_number_and_on_each_threshold(
    spark: SparkSession, saved: str
) -> None:
    before, flat = load_pipeline(spark, saved), laid_flat(spark, saved)
    drawn = [DenseVector(x) for x in np.random.default_rng(6).normal(size=(300, FEATURES))]
    odd = [
        DenseVector([value] * FEATURES)
        for value in (0.0, -0.0, float("inf"), float("-inf"), float("nan"), 5e-324, -5e-324)
    ]
    at_thresholds = []
    for feature, threshold in thresholds(boosted(before)):
        for value in (threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)):
            values = np.zeros(FEATURES)
            values[feature] = value
            at_thresholds.append(DenseVector(values))
    sparse = [SparseVector(FEATURES, {0: -0.4}), SparseVector(FEATURES, {})]
    data = rows(spark, [*drawn, *odd, *at_thresholds, *sparse])

    expected = predictions(before, data)

    assert len(set(expected)) > 50
    assert predictions(flat, data) == pytest.approx(expected, rel=1e-14)
    assert boosted(flat).in_jvm.getClass().getSimpleName() == "FlatTrees"


def test_a_copy_prices_as_its_model(spark: SparkSession, saved: str) -> None:
    flat = boosted(laid_flat(spark, saved))
    data = rows(spark, [DenseVector(x) for x in np.random.default_rng(7).normal(size=(20, FEATURES))])

    copy = JvmStage(flat.in_jvm.copy(flat.in_jvm.extractParamMap()))

    assert predictions(copy, data) == predictions(flat, data)


def test_trees_that_split_by_categories_stay_as_they_are(spark: SparkSession, tmp_path: Path) -> None:
    drawn = np.random.default_rng(8).integers(0, 4, size=200)
    data = rows(spark, [DenseVector([float(x)]) for x in drawn]).selectExpr(
        "features AS raw", "CAST(price % 7 AS DOUBLE) AS price"
    )
    stages = [
        VectorIndexer(inputCol="raw", outputCol="features", maxCategories=8),
        GBTRegressor(labelCol="price", maxIter=2, maxDepth=3, seed=1),
    ]
    Pipeline(stages=stages).fit(data).save(str(tmp_path / "categories"))

    flat = laid_flat(spark, str(tmp_path / "categories"))

    assert flat.in_jvm.stages()[1].getClass().getSimpleName() == "GBTRegressionModel"


def test_flat_trees_are_not_saved_in_place_of_the_model(
    spark: SparkSession, saved: str, tmp_path: Path
) -> None:
    flat = boosted(laid_flat(spark, saved))

    with pytest.raises(UnsupportedOperationException, match="save the model that they were made of"):
        flat.in_jvm.save(str(tmp_path / "flat"))
