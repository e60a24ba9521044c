"""Cross-validation and training of one base model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pyspark.ml import Model
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from usedcars_assets.pipeline.boosted_folds import Boosters
from usedcars_assets.pipeline.bounds import bounds_of, log_price_extremes
from usedcars_assets.pipeline.errors import PipelineError
from usedcars_assets.pipeline.evaluation import Metrics, evaluate, mean_and_deviation, metrics_by_slice
from usedcars_assets.pipeline.members import MEMBERS
from usedcars_assets.pipeline.members.member import Member, Parameters
from usedcars_assets.pipeline.smearing import smearing_estimates


@dataclass(frozen=True)
class MemberResult:
    """A trained base model and what it is worth; a context manager, as its predictions are cached.

    model: JVM stage, the member's vector to `prediction_<name>`, log price; trained on all training rows.
    smearing: what to multiply exp(prediction) with for the expected price (see `smearing`).
    out_of_fold: listing_id, fold, price, log_price, prediction_<name> by models that saw no row of the fold,
        in_sample_<name> by `model`, which saw all rows.
    test_predictions: listing_id, price, prediction_<name>, by `model`.
    fold_metrics: of each fold's rows, in the order of the folds, by the model that did not see them.
    fold_seconds: what each fold's model took to train, and to predict the rows of its fold.
    validation_seconds: of all folds, and of the predictions and metrics of `model`.
    trees, curves, boosters: see CrossValidation.
    """

    name: str
    parameters: dict[str, float | int | str]
    model: Model
    smearing: float
    out_of_fold: DataFrame
    test_predictions: DataFrame
    fold_metrics: list[Metrics]
    cv_mean: dict[str, float]
    cv_deviation: dict[str, float]
    train_metrics: Metrics
    test_metrics: Metrics
    fold_seconds: list[tuple[float, float]]
    training_seconds: float
    validation_seconds: float
    trees: int | None
    curves: Sequence[Sequence[tuple[float, float]]]
    boosters: Boosters | None

    def __enter__(self) -> Self:
        """The result, its predictions cached until the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Frees the cache."""
        self.release()

    def release(self) -> None:
        """Frees the cache; the predictions are then computed again when they are read."""
        self.out_of_fold.unpersist()
        self.test_predictions.unpersist()


def train_member(
    name: str,
    train: DataFrame,
    test: DataFrame,
    parameters: Parameters,
    seed: int,
    former: Boosters | None = None,
) -> MemberResult:
    """Cross-validates a base model over `train.fold`, then trains it on all training rows.

    train, test: tables of `build_features`. parameters: replace some of the member's defaults. former: of a
    training with the same parameters, folds and features of which few rows are new, to go on from.
    Several members may be trained at once from several threads (pyspark.InheritableThread).
    """
    member = MEMBERS[name]
    chosen = _chosen(member, parameters)
    prediction, in_sample = f"prediction_{name}", f"in_sample_{name}"
    partitions = int(train.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    rows = (
        # The name keeps members that read the same columns from sharing, and so freeing, one cache.
        train.select(
            "listing_id", "fold", "price", "log_price", member.features, sf.lit(name).alias("member")
        )
        .repartition(partitions, "listing_id")
        .sortWithinPartitions("listing_id")
        .persist()
    )
    cached = [rows]
    try:
        seen = rows.agg(sf.collect_set("fold").alias("folds"), *log_price_extremes()).collect()[0]
        folds, inside = sorted(seen.folds), bounds_of(seen).kept_inside(prediction)
        found = member.cross_validate(rows, member.features, prediction, chosen, seed, folds, former)
        cached += found.cached
        model = found.model
        start = time.monotonic()
        out_of_fold = (
            model.transform(rows)
            .select("listing_id", "fold", "price", "log_price", inside.alias(in_sample))
            .join(found.unseen.select("listing_id", inside), "listing_id")
            .select("listing_id", "fold", "price", "log_price", prediction, in_sample)
            .persist()
        )
        cached.append(out_of_fold)
        smearing = smearing_estimates(out_of_fold, {name: sf.col(prediction)})[name]
        in_usd = sf.exp(prediction) * smearing
        fold_metrics = list(metrics_by_slice(out_of_fold, "fold", in_usd).values())
        train_metrics = evaluate(out_of_fold, sf.exp(in_sample) * smearing)
        test_predictions = model.transform(test).select("listing_id", "price", inside).persist()
        cached.append(test_predictions)
        test_metrics = evaluate(test_predictions, in_usd)
        validation_seconds = time.monotonic() - start + sum(seconds for _, seconds in found.fold_seconds)
    except BaseException:
        for table in cached:
            table.unpersist()
        raise
    for table in (rows, *found.cached):
        table.unpersist()
    cv_mean, cv_deviation = mean_and_deviation(fold_metrics)
    return MemberResult(
        name=name,
        parameters=chosen,
        model=model,
        smearing=smearing,
        out_of_fold=out_of_fold,
        test_predictions=test_predictions,
        fold_metrics=fold_metrics,
        cv_mean=cv_mean,
        cv_deviation=cv_deviation,
        train_metrics=train_metrics,
        test_metrics=test_metrics,
        fold_seconds=found.fold_seconds,
        training_seconds=found.training_seconds,
        validation_seconds=validation_seconds,
        trees=found.trees,
        curves=found.curves,
        boosters=found.boosters,
    )


def _chosen(member: Member, parameters: Parameters) -> dict[str, float | int | str]:
    unknown = sorted(set(parameters) - set(member.defaults))
    if unknown:
        raise PipelineError(
            f"{member.name} has no parameter {', '.join(unknown)}: use {', '.join(sorted(member.defaults))}."
        )
    return {**member.defaults, **parameters}
