"""A model with flat stages prices as the one that it was made of."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from pyspark.ml import Estimator, Pipeline, Transformer
from pyspark.ml.feature import (
    CountVectorizer,
    Imputer,
    SQLTransformer,
    StandardScaler,
    VectorAssembler,
    VectorIndexer,
    Word2Vec,
)
from pyspark.ml.regression import GBTRegressor, LinearRegression, RandomForestRegressor
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import Row

from streaming_app.flat_stages import FlatModel, FlatStages, flat_model
from streaming_app.jvm_stages import JvmStage

CARS = ("fiat", "seat", "audi", "saab", "lada")
NUMBERS = ("miles", "age", "power")
FEATURES = len(NUMBERS) + 3 + 2
PREDICTIONS = ["of_trees", "of_line", "of_others", "price"]
SCHEMA = "miles DOUBLE, age DOUBLE, power DOUBLE, words ARRAY<STRING>, colors ARRAY<STRING>, label DOUBLE"


def vectors() -> list[Estimator | Transformer]:
    """Numbers and words to two vectors, as the features' stages do it."""
    known = [f"known_{name}" for name in NUMBERS]
    return [
        Imputer(inputCols=list(NUMBERS), outputCols=known, strategy="median"),
        Word2Vec(inputCol="words", outputCol="encoded", vectorSize=3, minCount=1, seed=2),
        CountVectorizer(inputCol="colors", outputCol="hot", vocabSize=2, binary=True),
        VectorAssembler(inputCols=[*known, "encoded", "hot"], outputCol="features", handleInvalid="keep"),
        VectorAssembler(inputCols=["features", "age"], outputCol="longer", handleInvalid="keep"),
    ]


def trees(features: str = "features", prediction: str = "of_trees") -> GBTRegressor:
    """7 trees of several depths, which four at a time do not share evenly."""
    return GBTRegressor(
        featuresCol=features,
        predictionCol=prediction,
        maxIter=7,
        maxDepth=4,
        stepSize=0.3,
        minInstancesPerNode=15,
        seed=1,
    )


def line(features: str, prediction: str) -> LinearRegression:
    return LinearRegression(featuresCol=features, predictionCol=prediction)


def stack() -> list[Estimator | Transformer]:
    """Members, one of them in a pipeline of its own and behind a stage of columns, and a meta-model."""
    return [
        *vectors(),
        StandardScaler(inputCol="features", outputCol="scaled", withMean=True, withStd=True),
        StandardScaler(inputCol="features", outputCol="only_centred", withMean=True, withStd=False),
        Pipeline(stages=[trees("scaled")]),
        SQLTransformer(statement="SELECT *, least(of_trees, 5000D) AS bounded FROM __THIS__"),
        line("features", "of_line"),
        trees("only_centred", "of_others"),
        SQLTransformer(statement="SELECT *, of_line + of_others AS sum FROM __THIS__"),
        VectorAssembler(inputCols=["bounded", "sum"], outputCol="members", handleInvalid="keep"),
        line("members", "price"),
    ]


def listings(spark: SparkSession, seed: int, rows: int) -> DataFrame:
    """Of known numbers, as linear models are fitted on."""
    drawn = np.random.default_rng(seed)
    return spark.createDataFrame(
        [
            (
                float(miles),
                float(age),
                float(power),
                [str(car) for car in drawn.choice(CARS, drawn.integers(0, 4))],
                [str(color) for color in drawn.choice(["red", "blue", "grey"], drawn.integers(1, 3))],
                float(3000 * (power > 0) - 500 * age + 100 * miles + drawn.normal()),
            )
            for miles, age, power in drawn.normal(size=(rows, 3))
        ],
        SCHEMA,
    ).coalesce(1)


def odd_listings(spark: SparkSession) -> DataFrame:
    odd = (None, 0.0, -0.0, float("inf"), float("-inf"), float("nan"), 5e-324, -5e-324, 1e300)
    rows = [(value, 1.0, value, ["fiat"], ["red"], 0.0) for value in odd]
    words = [[], ["unknown"], ["fiat", None, "fiat"], ["fiat", "seat", "audi", "saab", "lada"]]
    return spark.createDataFrame(
        [*rows, *((0.5, 0.5, 0.5, some, [*some, "red", "red"], 0.0) for some in words)], SCHEMA
    ).coalesce(1)


def fitted(spark: SparkSession, stages: Sequence[Estimator | Transformer]) -> JvmStage:
    return JvmStage(Pipeline(stages=list(stages)).fit(listings(spark, 5, 400))._to_java())


def flat(spark: SparkSession, pipeline: JvmStage) -> FlatModel:
    model = flat_model(spark, pipeline)
    assert model is not None
    return model


def predictions(model: JvmStage | FlatModel, data: DataFrame, names: Sequence[str]) -> list[Row]:
    return model.transform(data).select(*names).collect()


@pytest.fixture(scope="module")
def stacked(spark: SparkSession) -> JvmStage:
    return fitted(spark, stack())


def test_each_prediction_of_a_stack_is_the_same(spark: SparkSession, stacked: JvmStage) -> None:
    data = listings(spark, 6, 300).unionAll(odd_listings(spark))

    expected = predictions(stacked, data, PREDICTIONS)

    assert len(set(expected)) > 250
    for given, wanted in zip(predictions(flat(spark, stacked), data, PREDICTIONS), expected, strict=True):
        assert given == pytest.approx(wanted, rel=1e-12, nan_ok=True)


def test_no_vector_is_left_between_the_columns_of_a_stack(spark: SparkSession, stacked: JvmStage) -> None:
    model = flat(spark, stacked)

    kinds = [type(stage) for stage in model.stages]

    # Vectors and members, though a stage of columns stands between those; the meta-model takes such columns.
    assert kinds == [JvmStage, FlatStages, JvmStage, JvmStage, FlatStages]
    columns = model.transform(listings(spark, 7, 1)).schema
    assert not [field.name for field in columns if field.dataType.simpleString() == "vector"]


def test_trees_part_at_the_same_numbers(spark: SparkSession) -> None:
    assembler = VectorAssembler(inputCols=[*NUMBERS], outputCol="features", handleInvalid="keep")
    pipeline = fitted(spark, [assembler, trees()])
    model = pipeline.in_jvm.stages()[1]
    splits = [model.getTree(tree).rootNode().split() for tree in range(model.getNumTrees())]
    rows = []
    for split in splits:
        threshold = split.threshold()
        for value in (threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)):
            numbers = [0.0] * len(NUMBERS)
            numbers[split.featureIndex()] = float(value)
            rows.append((*numbers, [], [], 0.0))
    data = spark.createDataFrame(rows, SCHEMA).coalesce(1)

    expected = predictions(pipeline, data, ["of_trees"])

    assert len(set(expected)) > 1
    assert predictions(flat(spark, pipeline), data, ["of_trees"]) == expected


def late_column() -> list[Estimator | Transformer]:
    return [
        *vectors(),
        trees(),
        SQLTransformer(statement="SELECT *, age * 2 AS twice FROM __THIS__"),
        VectorAssembler(inputCols=["features", "twice"], outputCol="late", handleInvalid="keep"),
        line("late", "of_line"),
    ]


def categories() -> list[Estimator | Transformer]:
    return [
        *vectors(),
        VectorIndexer(inputCol="features", outputCol="indexed", maxCategories=4),
        trees("indexed"),
    ]


def counts() -> list[Estimator | Transformer]:
    return [*vectors(), CountVectorizer(inputCol="colors", outputCol="counts"), line("counts", "of_line")]


def refusal() -> list[Estimator | Transformer]:
    return [VectorAssembler(inputCols=["age"], outputCol="features"), trees()]


def leaves() -> list[Estimator | Transformer]:
    return [*vectors(), trees().setLeafCol("leaf")]


def forest() -> list[Estimator | Transformer]:
    return [*vectors(), RandomForestRegressor(numTrees=2)]


@pytest.mark.parametrize(
    "stages",
    [
        pytest.param(forest, id="a forest"),
        pytest.param(categories, id="trees that split by categories"),
        pytest.param(leaves, id="leaves that are asked for"),
        pytest.param(refusal, id="an assembler that refuses rows"),
        pytest.param(counts, id="words that are counted"),
        pytest.param(late_column, id="a vector with a column that is made later"),
    ],
)
def test_a_model_that_has_no_flat_form_stays_as_it_is(
    spark: SparkSession, stages: Callable[[], list[Estimator | Transformer]]
) -> None:
    assert flat_model(spark, fitted(spark, stages())) is None
