"""What categories do to the target at equal others, where their mean also tells what else goes with them.

A dealer's mean price tells what he sells rather than how he prices; the mean of a rare trim, how old its few
cars are. So the effects are those of an additive model: each is estimated from what the ones before it leave,
by one sweep of backfitting (Hastie and Tibshirani, "Generalized additive models", Statistical Science 1,
1986). Where its rows are few it is shrunk towards zero, as a random effect is (Robinson, "That BLUP is a good
thing", Statistical Science 6, 1991).
"""

from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

# Sums of whole micro-units do not depend on the order of the rows, as sums of floating-point numbers do.
UNITS = 1_000_000
NO_FOLD = -1


def category_effects(
    rows: DataFrame,
    *,
    words: str,
    places: Sequence[int],
    target: str,
    fold: str,
    means: Mapping[int, float],
    smoothing: float,
) -> DataFrame:
    """The effects as learned without each fold, and from all rows (without NO_FOLD).

    words: array column; places: of the words in it, in the order of the sweep. means: of the target, by the
    fold that is left out. Columns: without, order (of the effect, from 0), word, effect.
    """
    without = list(means)
    # Each fold is left out for itself from the first step on, so that no price reaches its own encoding: what
    # is left of the target is another column for each.
    left = rows.select(
        *(sf.col(words)[place].alias(f"word_{order}") for order, place in enumerate(places)),
        sf.col(fold).alias("fold"),
        *(
            (sf.col(target) - sf.lit(means[one])).alias(f"left_{number}")
            for number, one in enumerate(without)
        ),
    ).localCheckpoint()  # Else all that made the rows is planned again in every step, for seconds.
    learned: list[DataFrame] = []
    for order in range(len(places)):
        effects = (
            left.groupBy(f"word_{order}")
            .agg(
                *(
                    _effect(f"left_{number}", sf.col("fold") != one, smoothing).alias(f"effect_{number}")
                    for number, one in enumerate(without)
                )
            )
            .localCheckpoint()
        )
        learned.append(_as_rows(effects, order, without))
        left = left.join(sf.broadcast(effects), f"word_{order}").select(
            *(f"word_{later}" for later in range(order + 1, len(places))),
            "fold",
            *(
                (sf.col(f"left_{number}") - sf.coalesce(f"effect_{number}", sf.lit(0.0))).alias(
                    f"left_{number}"
                )
                for number in range(len(without))
            ),
        )
    return reduce(DataFrame.unionByName, learned)


def _effect(left: str, kept: Column, smoothing: float) -> Column:
    """Null when no row is kept."""
    units = sf.sum(sf.when(kept, sf.round(sf.col(left) * UNITS).cast("bigint")))
    n = sf.count_if(kept)
    return sf.when(n > 0, units / UNITS / (n + sf.lit(smoothing)))


def _as_rows(effects: DataFrame, order: int, without: Sequence[int]) -> DataFrame:
    of_each = (
        sf.struct(sf.lit(one).alias("without"), sf.col(f"effect_{number}").alias("effect"))
        for number, one in enumerate(without)
    )
    return (
        effects.select(sf.col(f"word_{order}").alias("word"), sf.inline(sf.array(*of_each)))
        .where("effect IS NOT NULL")
        .select("without", sf.lit(order).alias("order"), "word", "effect")
    )
