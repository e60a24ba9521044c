"""From a predicted log price back to dollars.

exp of an expected log price is less than the expected price. The smearing estimate corrects it by the mean of
exp(residual): Duan, "Smearing estimate: a nonparametric retransformation method", JASA 78, 1983.
"""

import math
from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

# A price more than e times off says that the listing is wrong, and a few such would move all prices.
LARGEST_RESIDUAL = 1.0


def smearing_estimates(rows: DataFrame, log_predictions: Mapping[str, Column]) -> dict[str, float]:
    """The factor for each prediction of `log_price`, from rows that the predicting model did not see."""
    bound = sf.lit(LARGEST_RESIDUAL)
    means = [
        sf.avg(sf.exp(sf.greatest(-bound, sf.least(bound, sf.col("log_price") - prediction)))).alias(name)
        for name, prediction in log_predictions.items()
    ]
    found = rows.agg(*means).collect()[0]
    return {name: math.nan if found[name] is None else float(found[name]) for name in log_predictions}
