import numpy as np
import pytest
from pyspark.ml.feature import StringIndexer, TargetEncoder
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.encoding import TargetEncoders, fit_target_encoders, words_in_fold

SMOOTHING, EFFECT_SMOOTHING = 3.0, 1.0


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
        encoded=(0, 1),
        smoothing=SMOOTHING,
        effects=(1, 0),
        effect_smoothing=EFFECT_SMOOTHING,
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
        encodings = row.encodings.toArray()[:2]
        assert encodings + mean == pytest.approx([row.by_make, row.by_city], abs=2e-6)


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
    assert encoders(rows).for_new_rows.transform(unknown).collect()[0].encodings.toArray().tolist() == [0] * 5
    lonely = [row["id"] for row in rows.where("city = 'city:lonely'").collect()]
    found = encoded_out_of_fold(rows)
    assert {found[place][1] for place in lonely} == {0.0}


def test_an_effect_is_what_the_ones_before_it_leave_shrunk_where_its_rows_are_few(rows: DataFrame) -> None:
    table = rows.select("make", "city", "log_price").toPandas()
    left = table.log_price - table.log_price.mean()
    effects = []
    for column in ("city", "make"):
        of_rows = left.groupby(table[column])
        effects.append(table[column].map(of_rows.sum() / (of_rows.size() + EFFECT_SMOOTHING)))
        left = left - effects[-1]
    encoded = encoders(rows).for_new_rows.transform(rows.orderBy("id")).collect()
    found = np.array([row.encodings.toArray()[2:] for row in encoded])
    assert found[:, 0] == pytest.approx(effects[0].to_numpy(), abs=2e-6)
    assert found[:, 1] == pytest.approx(effects[1].to_numpy(), abs=2e-6)
    assert found[:, 2] == pytest.approx(found[:, 0] + found[:, 1], abs=2e-6)


def test_an_effect_does_not_tell_what_goes_with_the_category(spark: SparkSession) -> None:
    """A dealer of dear cars who is as dear as all others has no effect, though his mean price is high."""
    cars = [("dear", "trader") if n % 10 else ("cheap", "trader") for n in range(200)]
    cars += [("cheap", "other") if n % 10 else ("dear", "other") for n in range(200)]
    prices = {"dear": 11.0, "cheap": 9.0}
    table = [
        (n % 4, prices[kind], [f"dealer:{dealer}", f"kind:{kind}"]) for n, (kind, dealer) in enumerate(cars)
    ]
    rows = spark.createDataFrame(table, "fold int, log_price double, words array<string>")
    (encodings, *_) = [
        row.encodings.toArray() for row in encoders(rows).for_new_rows.transform(rows).collect()
    ]
    price_of_dealer, effect_of_dealer = encodings[0], encodings[3]
    assert abs(price_of_dealer) > 0.5
    assert abs(effect_of_dealer) < 0.02


def test_a_category_that_all_rows_share_does_not_tell_a_row_its_fold(rows: DataFrame) -> None:
    alike = rows.withColumn("words", sf.array(sf.lit("make:only"), "city"))
    of_make, effect_of_make, effect_of_city, both = 0, 3, 2, 4
    for encodings in encoded_out_of_fold(alike).values():
        assert encodings[of_make] == encodings[effect_of_make] == 0
        assert encodings[both] == encodings[effect_of_city]
