"""The feature tables of a training: rows of its window, divided into train and test, as features."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

from dagster import (
    AllPartitionMapping,
    AssetExecutionContext,
    AssetIn,
    AssetOut,
    Config,
    Failure,
    MetadataValue,
    Output,
    multi_asset,
)
from pydantic import Field

from usedcars_assets.failures import OUTAGE_RETRIES, clear_failures
from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.metadata import sample_rows, table_markdown
from usedcars_assets.references import CleanedBatch, FeatureTable, FittedFeatures, Training
from usedcars_assets.registry.lost_runs import end_lost_runs
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.settings import defaults_from_environment
from usedcars_assets.training.members import DEFAULT_MEMBERS, MEMBER_NAMES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

CODE_VERSION = "5"
STABLE_PARTITIONS = 8
TRAINING_DISTRIBUTION = "training_distribution.json"
"""The name of its file, beside the features and in the registered version."""


@defaults_from_environment("training")
class TrainingConfig(Config):
    """What a training learns from, and what its members share; defaults by USEDCARS_TRAINING_<FIELD>."""

    last_batches: int = Field(default=0, ge=0, description="Learn from the last N batches; 0: from all.")
    members: list[str] = Field(
        default=list(DEFAULT_MEMBERS),
        description=f"Base models of the stack, of {', '.join(MEMBER_NAMES)}.",
    )
    folds: int = Field(default=5, ge=2, le=20, description="Folds of the cross-validation.")
    test_fraction: float = Field(default=0.15, gt=0, lt=1, description="Part of the rows kept for the test.")
    smoothing: float = Field(
        default=20, ge=0, description="Rows that the mean of all weighs as much as, in encoded categories."
    )
    effect_smoothing: float = Field(
        default=3, ge=0, description="Rows that no effect weighs as much as, in effects of categories."
    )
    seed: int = Field(default=20, description="Seed of the division into parts and of every model.")


@multi_asset(
    name="feature_tables",
    ins={"cleaned_listings": AssetIn(partition_mapping=AllPartitionMapping())},
    outs={
        "train_features": AssetOut(
            description="Training rows: vectors for trees and for linear models, fold, price.",
            group_name="features",
            owners=OWNERS,
            tags={"layer": "features"},
            kinds={"spark", "parquet", "hdfs"},
            code_version=CODE_VERSION,
        ),
        "test_features": AssetOut(
            description="Test rows, which no model sees before it is measured on them.",
            group_name="features",
            owners=OWNERS,
            tags={"layer": "features"},
            kinds={"spark", "parquet", "hdfs"},
            code_version=CODE_VERSION,
        ),
        "feature_pipeline": AssetOut(
            description="The stages from a cleaned listing to features, fitted once on the training rows.",
            group_name="features",
            owners=OWNERS,
            tags={"layer": "features"},
            kinds={"spark", "hdfs"},
            code_version=CODE_VERSION,
        ),
    },
    retry_policy=OUTAGE_RETRIES,
)
def feature_tables(
    context: AssetExecutionContext,
    config: TrainingConfig,
    cleaned_listings: dict[str, CleanedBatch],
    spark: SharedSpark,
    lake: Lake,
    mlflow: MlflowTracking,
) -> Iterator[Output[Any]]:
    """Begins a training: takes the batches of its window and fits the features on their training rows."""
    _check_members(config.members)
    window, left_out = _window(cleaned_listings, config.last_batches)
    with clear_failures("making features"):
        for lost in end_lost_runs(context.instance, mlflow):
            context.log.warning(f"MLflow run {lost} was left running by a training that is over: ended it.")
        training = Training(
            training_id=context.run.run_id,
            mlflow_run_id=mlflow.start_training_run(),
            batches=tuple(batch.version for batch in window),
            left_out=tuple(batch.version for batch in left_out),
            members=tuple(config.members),
            folds=config.folds,
            seed=config.seed,
            cleaned_rows=sum(batch.cleaned for batch in window),
            data_version=_data_version(window),
        )
        with spark.step(context):
            train, test, fitted = _make(spark, lake, config, training, window)
        _log_training(mlflow, training, config, train, test)
    shared: dict[str, Any] = {
        "training": training.training_id,
        "batches": len(window),
        "data_version": training.data_version,
        "mlflow_run": MetadataValue.url(mlflow.run_url(training.mlflow_run_id, mlflow.experiment_id())),
    }
    for name, table in (("train_features", train), ("test_features", test)):
        metadata = {
            **shared,
            "dagster/row_count": table.rows,
            "path": MetadataValue.path(lake.uri(table.path)),
            "seconds": table.seconds,
            "sample": MetadataValue.md(table_markdown(table.sample)),
        }
        yield Output(table, name, metadata=metadata)
    metadata = {
        **shared,
        "path": MetadataValue.path(lake.uri(fitted.path)),
        "seconds": fitted.seconds,
        **fitted.settings,
    }
    yield Output(fitted, "feature_pipeline", metadata=metadata)


def _check_members(members: list[str]) -> None:
    unknown = sorted(set(members) - set(MEMBER_NAMES))
    if unknown or len(members) < 2 or len(set(members)) != len(members):
        raise Failure(
            f"The members {members} are not two or more different ones of {', '.join(MEMBER_NAMES)}: "
            "correct them in the run's configuration.",
            allow_retries=False,
        )


def _window(cleaned: Mapping[str, CleanedBatch], last: int) -> tuple[list[CleanedBatch], list[CleanedBatch]]:
    """The batches to learn from and those left out, each in the order of their arrival."""
    ordered = sorted(cleaned.values(), key=lambda batch: (batch.arrived_at, batch.version.batch))
    if not ordered:
        raise Failure(
            "There is no cleaned batch to learn from: upload one, or materialise cleaned_listings.",
            allow_retries=False,
        )
    return (ordered[-last:], ordered[:-last]) if last else (ordered, [])


def _data_version(window: list[CleanedBatch]) -> str:
    return _digest(sorted(f"{batch.version.batch}\0{batch.version.fingerprint}" for batch in window))


def _digest(texts: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


def _make(
    spark: SharedSpark,
    lake: Lake,
    config: TrainingConfig,
    training: Training,
    window: list[CleanedBatch],
) -> tuple[FeatureTable, FeatureTable, FittedFeatures]:
    from pyspark.sql import functions as sf

    from usedcars_assets.pipeline.cleaning import listing_json
    from usedcars_assets.pipeline.features import FeatureSettings, latest_of_each_listing, split_rows
    from usedcars_assets.pipeline.tables import read_table, write_table

    started = time.monotonic()
    settings = FeatureSettings(
        folds=config.folds,
        test_fraction=config.test_fraction,
        seed=config.seed,
        smoothing=config.smoothing,
        effect_smoothing=config.effect_smoothing,
    )
    batches = [
        read_table(spark.spark_session, lake.uri(batch.cleaned_path))
        .drop("listing")  # held by tables of an earlier form
        .select("*", sf.lit(place).alias("batch"), sf.lit(batch.version.batch).alias("batch_name"))
        for place, batch in enumerate(window)
    ]
    rows = reduce(lambda one, other: one.unionByName(other), batches)
    # Both what is the latest and the stable order want a listing's rows in one place: one shuffle for both.
    cleaned = latest_of_each_listing(rows.repartition(STABLE_PARTITIONS, "listing_id"))
    split_path = f"{training.path}/split"
    split = split_rows(cleaned, settings).withColumn("listing", listing_json())
    write_table(in_stable_order(split), lake.uri(split_path), overwrite=True)
    return make_feature_tables(spark, lake, training, split_path, settings, started)


def make_feature_tables(
    spark: SharedSpark,
    lake: Lake,
    training: Training,
    split_path: str,
    settings: Any,
    started: float,
) -> tuple[FeatureTable, FeatureTable, FittedFeatures]:
    """Features of the rows at `split_path`, and the stages that make them, all stored with the training."""
    from dataclasses import asdict

    from usedcars_assets.pipeline.features import build_features
    from usedcars_assets.pipeline.tables import read_table, write_table

    session = spark.spark_session
    rows = read_table(session, lake.uri(split_path)).drop("split", "fold", "listing")
    features = build_features(rows, settings)
    tables = []
    for name, table in (("train", features.train), ("test", features.test)):
        path = f"{training.path}/{name}"
        write_table(table, lake.uri(path), overwrite=True)
        written = read_table(session, lake.uri(path))
        tables.append(
            FeatureTable(
                training=training,
                path=path,
                rows=written.count(),
                sample=sample_rows(written.drop("features", "linear_features")),
                layout=_digest([CODE_VERSION, *map(str, asdict(settings).values())]),
                features=features.names,
                seconds=time.monotonic() - started,
            )
        )
    pipeline_path = f"{training.path}/features"
    spark.save_model(features.pipeline, lake.uri(pipeline_path))
    lake.write_json(training_distribution_path(training), features.distribution.document())
    fitted = FittedFeatures(
        training=training,
        path=pipeline_path,
        split_path=split_path,
        settings=asdict(settings),
        seconds=time.monotonic() - started,
    )
    return tables[0], tables[1], fitted


def training_distribution_path(training: Training) -> str:
    """Where the distribution of the training rows is stored, as JSON."""
    return f"{training.path}/{TRAINING_DISTRIBUTION}"


def in_stable_order(rows: "DataFrame") -> "DataFrame":
    """The same rows in the same partitions and order wherever they come from.

    Sums of floating-point numbers depend on their order: without this a model trained again on the export
    of its rows would differ in the last digits.
    """
    return rows.repartition(STABLE_PARTITIONS, "listing_id").sortWithinPartitions("listing_id")


def _log_training(
    mlflow: MlflowTracking,
    training: Training,
    config: TrainingConfig,
    train: FeatureTable,
    test: FeatureTable,
) -> None:
    from usedcars_assets.registry.tracking import BATCHES, library_versions, log

    client = mlflow.client()
    log(
        client,
        training.mlflow_run_id,
        parameters={
            **config.model_dump(exclude={"members"}),
            "members": ", ".join(training.members),
            "data_version": training.data_version,
            "batches": len(training.batches),
            **library_versions(),
        },
        metrics={
            "cleaned_rows": training.cleaned_rows,
            "train_rows": train.rows,
            "test_rows": test.rows,
            "feature_seconds": test.seconds,
        },
        tags={
            "mlflow.runName": f"training-{training.training_id[:8]}",
            "training_id": training.training_id,
            "mlflow.note.content": (
                f"Training over {len(training.batches)} batches. "
                f"[Dagster run]({mlflow.dagster_run_url(training.training_id)})"
            ),
        },
    )
    batches = {version.batch: version.fingerprint for version in training.batches}
    client.log_dict(training.mlflow_run_id, batches, BATCHES)
