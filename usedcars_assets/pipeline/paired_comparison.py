"""Whether one version's prices are worse than another's on the same cars: a paired comparison of errors.

The error of a price is |ln(price / set price)|: 0.1 is about 10 %. The errors of two versions on one car
differ by no more than |ln(price / other price)|, whatever was set: an absurd set price decides nothing.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf


@dataclass(frozen=True)
class PairedErrors:
    """Errors of a version and of the former one over the same cars."""

    pairs: int
    error: float  # mean
    former_error: float  # mean
    excess: float  # mean of error - (1 + margin) * former_error of each car
    deviation: float  # standard deviation of that among the cars


def paired_errors(priced: DataFrame, margin: float) -> PairedErrors:
    """Errors over all rows, in one Spark job.

    priced: `price`, `former_price` and `set_price` in USD; rows without all three, positive, are left out.
    margin: how much larger than the former one an error may be, a fraction of it.
    """
    error, former_error = (
        sf.abs(sf.ln(sf.col(name) / sf.col("set_price"))) for name in ("price", "former_price")
    )
    (row,) = (
        priced.where("price > 0 AND former_price > 0 AND set_price > 0")
        .select(error.alias("error"), former_error.alias("former_error"))
        .withColumn("excess", sf.col("error") - sf.lit(1 + margin) * sf.col("former_error"))
        .agg(
            sf.count(sf.lit(1)).alias("pairs"),
            sf.avg("error").alias("error"),
            sf.avg("former_error").alias("former_error"),
            sf.avg("excess").alias("excess"),
            sf.stddev_samp("excess").alias("deviation"),
        )
        .collect()
    )
    return PairedErrors(
        pairs=int(row.pairs),
        **{name: float(row[name] or 0.0) for name in ("error", "former_error", "excess", "deviation")},
    )


def chance_of_no_excess(found: PairedErrors) -> float:
    """The p-value of the one-sided paired test that the true mean excess is not above zero.

    By the normal distribution, which from 200 pairs on Student's t can't be told from. 1 without pairs.
    """
    if found.pairs < 2:
        return 1.0
    if found.deviation == 0:
        return 0.0 if found.excess > 0 else 1.0
    return NormalDist().cdf(-found.excess / found.deviation * math.sqrt(found.pairs))


def is_worse(found: PairedErrors, confidence: float, looks: int, least_pairs: int) -> bool:
    """Whether the version is worse by more than the margin.

    Of versions that are not, a share of at most 1 - confidence is called worse in any of so many looks at
    growing evidence: each has an equal part of it (Bonferroni).
    """
    return found.pairs >= least_pairs and chance_of_no_excess(found) <= (1 - confidence) / looks
