import pytest
from pyspark.ml.feature import StringIndexer, TargetEncoder
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.encoding import TargetEncoders, fit_target_encoders, words_in_fold

SMOOTHING = 3.0


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    table = spark.range(400, numPartitions=3).selectExpr(
        "id",
        "CAST(id % 4 AS INT) AS fold",
        "concat('make:', id * 7 % 11) AS make",
        # Some cities live in one fold only.
        "concat('city:', if(id % 4 = 1 AND id < 40, 'lonely', CAST(id % 23 AS STRING))) AS city",
        "9 + (id * 31 % 97) / 50.0D AS log_price",
    )
    return table.withColumn("words", sf.array("make", "city")).persist()


def encoders(rows: DataFrame) -> TargetEncoders:
    return fit_target_encoders(
        rows,
        words="words",
        target="log_price",
        fold="fold",
        output="encodings",
        smoothing=SMOOTHING,
        columns=2,
    )


def encoded_out_of_fold(rows: DataFrame) -> dict[int, list[float]]:
    in_folds = rows.withColumn("words", words_in_fold("words", "fold"))
    return {
        row["id"]: row.encodings.toArray().tolist()
        for row in encoders(rows).out_of_fold.transform(in_folds).collect()
    }


def test_new_rows_are_encoded_as_sparks_target_encoder_does(rows: DataFrame) -> None:
    indexed = StringIndexer(inputCols=["make", "city"], outputCols=["m", "c"]).fit(rows).transform(rows)
    peer = TargetEncoder(
        inputCols=["m", "c"],
        outputCols=["by_make", "by_city"],
        labelCol="log_price",
        targetType="continuous",
        smoothing=SMOOTHING,
    ).fit(indexed)
    mean = rows.agg(sf.avg("log_price")).collect()[0][0]
    both = encoders(rows).for_new_rows.transform(peer.transform(indexed)).collect()
    for row in both:
        assert row.encodings.toArray() + mean == pytest.approx([row.by_make, row.by_city], abs=2e-6)


def test_out_of_fold_encodings_are_those_of_an_encoder_that_never_saw_the_fold(rows: DataFrame) -> None:
    found = encoded_out_of_fold(rows)
    for fold in range(4):
        others = encoders(rows.where(f"fold != {fold}")).for_new_rows
        for row in others.transform(rows.where(f"fold = {fold}")).collect():
            assert found[row["id"]] == pytest.approx(row.encodings.toArray().tolist(), abs=2e-6)


def test_the_prices_of_a_fold_do_not_touch_its_own_encodings(rows: DataFrame) -> None:
    before = encoded_out_of_fold(rows)
    dearer = rows.withColumn(
        "log_price", sf.col("log_price") + sf.when(sf.col("fold") == 2, 5.0).otherwise(0.0)
    )
    after = encoded_out_of_fold(dearer)
    own = [row["id"] for row in rows.where("fold = 2").collect()]
    assert {place: before[place] for place in own} == {place: after[place] for place in own}
    assert any(before[place] != after[place] for place in before if place not in own)


def test_unknown_categories_are_encoded_as_the_mean_of_all(rows: DataFrame, spark: SparkSession) -> None:
    unknown = spark.createDataFrame([(["make:none", "city:none"],)], "words array<string>")
    assert encoders(rows).for_new_rows.transform(unknown).collect()[0].encodings.toArray().tolist() == [0, 0]
    lonely = [row["id"] for row in rows.where("city = 'city:lonely'").collect()]
    found = encoded_out_of_fold(rows)
    assert {found[place][1] for place in lonely} == {0.0}
