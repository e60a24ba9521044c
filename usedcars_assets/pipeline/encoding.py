"""Target encoding of high-cardinality categories, out-of-fold for the rows it is learned from.

A category is encoded by how far the mean log price of its rows lies from the mean of all rows, shrunk towards
zero when it has few: n / (n + smoothing) * (mean of the category - mean of all). Spark's TargetEncoder
computes the same, plus the mean of all, which is left out so that an unknown category is 0 (Micci-Barreca, "A
preprocessing scheme for high-cardinality categorical attributes", 2001).

TargetEncoderModel compiles to one CASE branch for each category, too slow to plan and to serve with tens of
thousands of trims, cities and dealers. Here one stage looks up all columns in one hash map: a Word2VecModel,
which maps words to vectors and averages them. Its words are the categories; the vector of a category is zero
but at the places of its column. See docs/decisions/004.

Of some columns the same table also holds the effects at equal others (`category_effects`), and their sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.ml.feature import Word2VecModel
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.category_effects import NO_FOLD, UNITS, category_effects
from usedcars_assets.pipeline.jvm_stage import JvmStage
from usedcars_assets.pipeline.saved_models import load_from_tables


@dataclass(frozen=True)
class TargetEncoders:
    """Two stages from an array of words, one for each categorical column, to the vector of their encodings.

    for_new_rows: learned from all rows.
    out_of_fold: for the very rows it was learned from, each encoded by the rows of the other folds; its words
        are those of `words_in_fold`.
    """

    for_new_rows: JvmStage
    out_of_fold: JvmStage


def words_in_fold(words: str, fold: str) -> Column:
    """The words of a row of the training part, marked with its fold."""
    return sf.transform(words, lambda word: _in_fold(sf.col(fold), word))


def fit_target_encoders(
    rows: DataFrame,
    *,
    words: str,
    target: str,
    fold: str,
    output: str,
    encoded: Sequence[int],
    smoothing: float,
    effects: Sequence[int],
    effect_smoothing: float,
) -> TargetEncoders:
    """Learns both encoders.

    words: array column with one word for each categorical column, always in the same order; a word names its
    column, so that no two columns share one. encoded: the places of those that are encoded by the target;
    effects: of those whose effects at equal others are estimated, in this order. target: double. fold: int.
    The vector: the encodings, the effects, the sum of the effects; 0 for what all rows share.
    """
    size, per_row = len(encoded) + len(effects) + 1, 1 + max(*encoded, *effects)
    units = sf.round(sf.col(target) * UNITS).cast("bigint")
    wanted = sorted({*encoded, *effects})
    folds = (
        rows.groupBy(fold)
        .agg(
            sf.count(sf.lit(1)).alias("n"),
            sf.sum(units).alias("total"),
            *(sf.min(sf.col(words)[place]).alias(f"first_{place}") for place in wanted),
            *(sf.max(sf.col(words)[place]).alias(f"last_{place}") for place in wanted),
        )
        .collect()
    )
    n, total = sum(row["n"] for row in folds), sum(row["total"] for row in folds)
    means = {row[fold]: (total - row["total"]) / max(n - row["n"], 1) / UNITS for row in folds}
    # A category that all rows share tells nothing of a row; out-of-fold it would tell the row's fold, and so
    # what the prices in it are.
    shared = [
        place
        for place in wanted
        if len({row[f"{end}_{place}"] for row in folds for end in ("first", "last")}) == 1
    ]
    others_mean = sf.create_map(*(sf.lit(value) for item in means.items() for value in item))
    of_encoded = sf.array(*(sf.col(words)[place] for place in encoded))
    by_fold = (
        rows.select(fold, units.alias("units"), sf.posexplode(of_encoded).alias("place", "word"))
        .where(~sf.col("place").isin([encoded.index(place) for place in shared if place in encoded]))
        .groupBy("place", "word", fold)
        .agg(sf.count(sf.lit(1)).alias("n"), sf.sum("units").alias("total"))
        .localCheckpoint()  # Both tables are made of it.
    )
    learned = category_effects(
        rows,
        words=words,
        places=effects,
        target=target,
        fold=fold,
        means={**means, NO_FOLD: total / n / UNITS},
        smoothing=effect_smoothing,
    ).where(~sf.col("order").isin([effects.index(place) for place in shared if place in effects]))
    every_fold = Window.partitionBy("place", "word")
    by_others = by_fold.select(
        "place",
        _in_fold(sf.col(fold), sf.col("word")).alias("word"),
        (sf.sum("n").over(every_fold) - sf.col("n")).alias("n"),
        (sf.sum("total").over(every_fold) - sf.col("total")).alias("total"),
        others_mean[sf.col(fold)].alias("mean"),
    ).where("n > 0")
    by_all = (
        by_fold.groupBy("place", "word")
        .agg(sf.sum("n").alias("n"), sf.sum("total").alias("total"))
        .withColumn("mean", sf.lit(total / n / UNITS))
    )
    each = learned.select(
        "without",
        "word",
        sf.col("effect").alias("value"),
        sf.explode(sf.array(sf.lit(len(encoded)) + sf.col("order"), sf.lit(size - 1))).alias("place"),
    )
    of_all = each.where(sf.col("without") == NO_FOLD)
    of_folds = each.where(sf.col("without") != NO_FOLD).withColumn(
        "word", _in_fold(sf.col("without"), sf.col("word"))
    )
    return TargetEncoders(
        *(
            _lookup(_encodings(sums, smoothing).unionByName(effects), words, output, size, per_row)
            for sums, effects in (
                (by_all, of_all.drop("without")),
                (by_others, of_folds.drop("without")),
            )
        )
    )


def _in_fold(fold: Column, word: Column) -> Column:
    return sf.concat_ws("|", fold.cast("string"), word)


def _encodings(sums: DataFrame, smoothing: float) -> DataFrame:
    """sums: place, word, n rows, total of their target in micro-units, mean of all."""
    encoding = (sf.col("total") / UNITS - sf.col("n") * sf.col("mean")) / (sf.col("n") + sf.lit(smoothing))
    return sums.select("word", "place", encoding.alias("value"))


def _lookup(values: DataFrame, words: str, output: str, size: int, per_row: int) -> JvmStage:
    """values: word, place in the vector, value; the stage divides by the words of a row, `per_row`."""
    # Spark compiles this; functions over arrays it interprets, place by place.
    places = ", ".join(
        f"coalesce(max(value) FILTER (WHERE place = {place}) * {per_row}, 0D)" for place in range(size)
    )
    vector = sf.expr(f"CAST(array({places}) AS ARRAY<FLOAT>)")
    table = values.groupBy("word").agg(vector.alias("vector"))
    return load_from_tables(
        values.sparkSession,
        Word2VecModel,
        {"inputCol": words, "outputCol": output, "vectorSize": size},
        {"data": table.coalesce(1)},
    )
