"""Target encoding of high-cardinality categories, out-of-fold for the rows it is learned from.

A category is encoded by how far the mean log price of its rows lies from the mean of all rows, shrunk towards
zero when it has few: n / (n + smoothing) * (mean of the category - mean of all). Spark's TargetEncoder
computes the same, plus the mean of all, which is left out so that an unknown category is 0 (Micci-Barreca, "A
preprocessing scheme for high-cardinality categorical attributes", 2001).

TargetEncoderModel compiles to one CASE branch for each category, too slow to plan and to serve with tens of
thousands of trims, cities and dealers. Here one stage looks up all columns in one hash map: a Word2VecModel,
which maps words to vectors and averages them. Its words are the categories; the vector of a category is zero
but at the place of its column. See docs/decisions/004.
"""

from dataclasses import dataclass

from pyspark.ml.feature import Word2VecModel
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.saved_models import load_from_tables

# Sums of whole micro-units do not depend on the order of the rows, as sums of floating-point numbers do.
_UNITS = 1_000_000


@dataclass(frozen=True)
class TargetEncoders:
    """Two stages from an array of words, one for each categorical column, to the vector of their encodings.

    for_new_rows: learned from all rows.
    out_of_fold: for the very rows it was learned from, each encoded by the rows of the other folds; its words
        are those of `words_in_fold`.
    """

    for_new_rows: Word2VecModel
    out_of_fold: Word2VecModel


def words_in_fold(words: str, fold: str) -> Column:
    """The words of a row of the training part, marked with its fold."""
    return sf.transform(words, lambda word: sf.concat_ws("|", sf.col(fold).cast("string"), word))


def fit_target_encoders(
    rows: DataFrame, *, words: str, target: str, fold: str, output: str, smoothing: float, columns: int
) -> TargetEncoders:
    """Learns both encoders in one pass over the rows.

    words: array column with one word for each of `columns` categorical columns, always in the same order;
    a word names its column, so that no two columns share one. target: double. fold: int.
    """
    units = sf.round(sf.col(target) * _UNITS).cast("bigint")
    folds = rows.groupBy(fold).agg(sf.count(sf.lit(1)).alias("n"), sf.sum(units).alias("total")).collect()
    n, total = sum(row["n"] for row in folds), sum(row["total"] for row in folds)
    others_mean = sf.create_map(
        *(
            sf.lit(value)
            for row in folds
            for value in (row[fold], (total - row["total"]) / max(n - row["n"], 1) / _UNITS)
        )
    )
    by_fold = (
        rows.select(fold, units.alias("units"), sf.posexplode(words).alias("place", "word"))
        .groupBy("place", "word", fold)
        .agg(sf.count(sf.lit(1)).alias("n"), sf.sum("units").alias("total"))
        .persist()
    )
    try:
        every_fold = Window.partitionBy("place", "word")
        by_others = by_fold.select(
            "place",
            sf.concat_ws("|", sf.col(fold).cast("string"), "word").alias("word"),
            (sf.sum("n").over(every_fold) - sf.col("n")).alias("n"),
            (sf.sum("total").over(every_fold) - sf.col("total")).alias("total"),
            others_mean[sf.col(fold)].alias("mean"),
        ).where("n > 0")
        by_all = (
            by_fold.groupBy("place", "word")
            .agg(sf.sum("n").alias("n"), sf.sum("total").alias("total"))
            .withColumn("mean", sf.lit(total / n / _UNITS))
        )
        return TargetEncoders(
            for_new_rows=_lookup(by_all, words, output, smoothing, columns),
            out_of_fold=_lookup(by_others, words, output, smoothing, columns),
        )
    finally:
        by_fold.unpersist()


def _lookup(sums: DataFrame, words: str, output: str, smoothing: float, columns: int) -> Word2VecModel:
    """sums: place, word, n rows, total of their target in micro-units, mean of all."""
    encoding = (sf.col("total") / _UNITS - sf.col("n") * sf.col("mean")) / (sf.col("n") + sf.lit(smoothing))
    # The stage divides by the number of words.
    vector = sf.transform(
        sf.sequence(sf.lit(0), sf.lit(columns - 1)),
        lambda place: sf.when(place == sf.col("place"), encoding * columns).otherwise(0.0).cast("float"),
    )
    return load_from_tables(
        sums.sparkSession,
        Word2VecModel,
        {"inputCol": words, "outputCol": output, "vectorSize": columns},
        {"data": sums.select("word", vector.alias("vector")).coalesce(1)},
    )
