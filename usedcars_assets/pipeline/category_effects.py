"""What categories do to the target at equal others, where their mean also tells what else goes with them.

A dealer's mean price tells what he sells rather than how he prices; the mean of a rare trim, how old its few
cars are. So the effects are those of an additive model: each is estimated from what the ones before it leave,
by one sweep of backfitting (Hastie and Tibshirani, "Generalized additive models", Statistical Science 1,
1986). Where its rows are few it is shrunk towards zero, as a random effect is (Robinson, "That BLUP is a good
thing", Statistical Science 6, 1991).
"""

from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import DataFrame
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
    left = rows.selectExpr(
        *(f"{words}[{place}] AS word_{order}" for order, place in enumerate(places)),
        f"{fold} AS fold",
        *(f"{target} - {means[one]!r}D AS left_{number}" for number, one in enumerate(without)),
    ).localCheckpoint()  # Narrow, as every step reads it.
    learned: list[DataFrame] = []
    for order in range(len(places)):
        effects = (
            left.groupBy(f"word_{order}")
            .agg(
                *(
                    sf.expr(_effect(f"left_{number}", f"fold <> {one}", smoothing)).alias(f"effect_{number}")
                    for number, one in enumerate(without)
                )
            )
            .localCheckpoint()
        )
        learned.append(_as_rows(effects, order, without))
        left = left.join(sf.broadcast(effects), f"word_{order}").selectExpr(
            *(f"word_{later}" for later in range(order + 1, len(places))),
            "fold",
            *(
                f"left_{number} - coalesce(effect_{number}, 0D) AS left_{number}"
                for number in range(len(without))
            ),
        )
    return reduce(DataFrame.unionByName, learned)


def _effect(left: str, kept: str, smoothing: float) -> str:
    """SQL of the effect in a group; null when no row is kept."""
    units = f"sum(CAST(round({left} * {UNITS}) AS BIGINT)) FILTER (WHERE {kept})"
    return f"{units} / {UNITS} / nullif(count_if({kept}) + {smoothing!r}D, 0D)"


def _as_rows(effects: DataFrame, order: int, without: Sequence[int]) -> DataFrame:
    of_each = ", ".join(
        f"struct({one} AS without, effect_{number} AS effect)" for number, one in enumerate(without)
    )
    return (
        effects.selectExpr(f"word_{order} AS word", f"inline(array({of_each}))")
        .where("effect IS NOT NULL")
        .select("without", sf.lit(order).alias("order"), "word", "effect")
    )
