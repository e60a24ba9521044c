"""The stack of the base models, and the one artefact from a raw listing to its price."""

from typing import TYPE_CHECKING, Any, cast

from dagster import AssetExecutionContext, AssetIn, Config, Failure, MetadataValue, Output, asset
from pydantic import Field

from usedcars_assets.failures import OUTAGE_RETRIES, clear_failures
from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.metadata import table_markdown
from usedcars_assets.references import FittedFeatures, StackedModel, TrainedMember
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.settings import defaults_from_environment
from usedcars_assets.training.members import MEMBER_NAMES
from usedcars_assets.training.plots import PREDICTED_AGAINST_TRUE, as_markdown_image, plot_of

if TYPE_CHECKING:
    from pyspark.ml import Model
    from pyspark.sql import DataFrame

    from usedcars_assets.pipeline.stacking import StackResult

CODE_VERSION = "5"


@defaults_from_environment("quality")
class QualityConfig(Config):
    """What a model must reach to be registered; defaults by USEDCARS_QUALITY_<FIELD>."""

    least_r2: float = Field(default=0.5, le=1, description="R² on the test rows.")
    worse_than_best_member: float = Field(
        default=0.02,
        ge=0,
        description="By how much its errors may exceed those of its best member, beyond chance.",
    )
    worse_than_serving: float = Field(
        default=0.25,
        ge=0,
        description="By how much its errors may exceed those of the version in service, beyond chance.",
    )


@asset(
    name="stacked_model",
    ins={name: AssetIn(dagster_type=TrainedMember) for name in MEMBER_NAMES},
    description="A linear model over the base models, as one Spark pipeline from a raw listing to a price.",
    group_name="training",
    owners=OWNERS,
    tags={"layer": "models"},
    kinds={"spark", "mlflow"},
    code_version=CODE_VERSION,
    retry_policy=OUTAGE_RETRIES,
)
def stacked_model(
    context: AssetExecutionContext,
    config: QualityConfig,
    feature_pipeline: FittedFeatures,
    spark: SharedSpark,
    lake: Lake,
    mlflow: MlflowTracking,
    **each: TrainedMember,
) -> Output[StackedModel]:
    """Stacks the members of the training."""
    members = {name: each[name] for name in MEMBER_NAMES if name in feature_pipeline.training.members}
    _check_same_training(feature_pipeline, members)
    with clear_failures("stacking"), spark.step(context):
        return _stack(context, config, feature_pipeline, members, spark, lake, mlflow)


def _check_same_training(features: FittedFeatures, members: dict[str, TrainedMember]) -> None:
    others = [
        name
        for name, member in members.items()
        if not member.trained or member.training.training_id != features.training.training_id
    ]
    if others:
        raise Failure(
            f"{', '.join(others)} and feature_pipeline are of different trainings: "
            "materialise these members again, then stacked_model.",
            allow_retries=False,
        )


def _stack(
    context: AssetExecutionContext,
    config: QualityConfig,
    features: FittedFeatures,
    members: dict[str, TrainedMember],
    spark: SharedSpark,
    lake: Lake,
    mlflow: MlflowTracking,
) -> Output[StackedModel]:
    from dataclasses import asdict

    from usedcars_assets.pipeline.artefact import assemble_artefact
    from usedcars_assets.pipeline.stacking import train_stack
    from usedcars_assets.pipeline.tables import read_table, save_model, write_table

    session, training = spark.spark_session, features.training
    path = f"{training.path}/stack"
    out_of_fold, test_predictions = (
        {name: read_table(session, lake.uri(f"{member.path}/{table}")) for name, member in members.items()}
        for table in ("out_of_fold", "test_predictions")
    )
    result = train_stack(out_of_fold, test_predictions)
    models = {
        name: cast("Model", spark.model(lake.uri(f"{member.path}/model")).stages[0])
        for name, member in members.items()
    }
    artefact = assemble_artefact(spark.model(lake.uri(features.path)), models, result)
    # Not kept as it is: its checks are of what is stored, and registered.
    save_model(artefact, lake.uri(f"{path}/artefact"), overwrite=True)
    write_table(result.test_predictions, lake.uri(f"{path}/test_predictions"), overwrite=True)
    split = read_table(session, lake.uri(features.split_path))
    plot = plot_of(read_table(session, lake.uri(f"{path}/test_predictions")))
    experiment_id = mlflow.experiment_id()
    run_id = _log(mlflow, experiment_id, training.mlflow_run_id, result, plot, context.run.run_id)
    reference = StackedModel(
        training=training,
        path=path,
        split_path=features.split_path,
        mlflow_run_id=run_id,
        weights=result.weights,
        test=asdict(result.test_metrics),
        best_member=result.best_member,
        best_member_test=asdict(result.member_test_metrics[result.best_member]),
        interval_coverage=result.interval_quality.coverage,
        interval_width=result.interval_quality.width,
        input_example=_input_example(split),
        gates=config.model_dump(),
    )
    rows = [
        {"model": name, **{metric: _shown(value) for metric, value in asdict(metrics).items()}}
        for name, metrics in {"stack": result.test_metrics, **result.member_test_metrics}.items()
    ]
    metadata: dict[str, Any] = {
        **{f"test_{metric}": value for metric, value in reference.test.items()},
        "test_errors": MetadataValue.md(table_markdown(rows)),
        "predicted_against_true": MetadataValue.md(as_markdown_image(plot, "predicted against true price")),
        "weights": MetadataValue.json(result.weights),
        "improvement_over_best_member": result.improvement,
        "best_member": result.best_member,
        **result.interval_quality.metrics(),
        **{f"cv_{metric}": value for metric, value in result.cv_mean.items()},
        "training_seconds": result.training_seconds,
        "validation_seconds": result.validation_seconds,
        "path": MetadataValue.path(lake.uri(f"{path}/artefact")),
        "mlflow_run": MetadataValue.url(mlflow.run_url(run_id, experiment_id)),
    }
    return Output(reference, metadata=metadata)


def _shown(value: float) -> str:
    """Dollars and counts without decimals, fractions with four."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4f}"


def _input_example(split: "DataFrame") -> str:
    """A listing of the test rows: a price is known to come out."""
    (row,) = split.where("split = 'test'").orderBy("listing_id").select("listing").limit(1).collect()
    return str(row.listing)


def _log(
    mlflow: MlflowTracking,
    experiment_id: str,
    parent: str,
    result: "StackResult",
    plot: bytes,
    dagster_run_id: str,
) -> str:
    from usedcars_assets.registry.tracking import log, log_file, named, nested_run, over_folds

    client = mlflow.client()
    with nested_run(client, experiment_id, parent, "stacked_model", dagster_run_id) as run_id:
        log(
            client,
            run_id,
            parameters={
                **{f"weight_{name}": weight for name, weight in result.weights.items()},
                "smearing": result.smearing,
                "best_member": result.best_member,
            },
            metrics={
                **named("out_of_fold", result.out_of_fold_metrics),
                **named("train", result.train_metrics),
                **named("test", result.test_metrics),
                **over_folds(result.cv_mean, result.cv_deviation),
                "improvement_over_best_member": result.improvement,
                **result.interval_quality.metrics(),
                "training_seconds": result.training_seconds,
                "validation_seconds": result.validation_seconds,
            },
            tags={"member": "stacked_model"},
        )
    log(
        client,
        parent,
        metrics={
            **named("test", result.test_metrics),
            **{
                f"{name}_{metric}": value
                for name, metrics in result.member_test_metrics.items()
                for metric, value in named("test", metrics).items()
            },
            "improvement_over_best_member": result.improvement,
            **result.interval_quality.metrics(),
        },
    )
    log_file(client, parent, PREDICTED_AGAINST_TRUE, plot)
    return run_id
