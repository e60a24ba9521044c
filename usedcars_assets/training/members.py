"""The base models: one asset each, trained at the same time in one Spark application."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    Config,
    Failure,
    MetadataValue,
    Output,
    asset,
)

from usedcars_assets.failures import OUTAGE_RETRIES, clear_failures
from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.references import FeatureTable, TrainedMember, TunedMember, TunedParameters
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.references import reference_path
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.training.configuration import (
    ElasticNetConfig,
    GradientBoostingConfig,
    RandomForestConfig,
    ResidualBoostingConfig,
    SupportVectorConfig,
)
from usedcars_assets.training.plots import (
    LEARNING_CURVES,
    PREDICTED_AGAINST_TRUE,
    as_markdown_image,
    learning_curves,
    plot_of,
)
from usedcars_assets.training.warm_start import why_anew

if TYPE_CHECKING:
    from usedcars_assets.pipeline.members.training import MemberResult

CODE_VERSION = "5"
DEFAULT_MEMBERS = ("gradient_boosting", "residual_boosting", "support_vector", "elastic_net")
MEMBER_NAMES = (*DEFAULT_MEMBERS, "random_forest")
BY_XGBOOST = ("gradient_boosting", "residual_boosting")
TUNED_PARAMETERS = AssetKey("tuned_parameters")
CONFIGS: dict[str, type[Config]] = {
    "gradient_boosting": GradientBoostingConfig,
    "residual_boosting": ResidualBoostingConfig,
    "support_vector": SupportVectorConfig,
    "elastic_net": ElasticNetConfig,
    "random_forest": RandomForestConfig,
}
_DESCRIPTIONS = {
    "gradient_boosting": "Gradient boosted trees, trained by XGBoost and kept as Spark's own trees.",
    "residual_boosting": "The same, of what a linear model leaves of the log price; with that model.",
    "support_vector": "Linear support vector regression.",
    "elastic_net": "Linear regression with an elastic net penalty.",
    "random_forest": "Random forest; trained when a run's configuration names it among the members.",
}


def member_asset(name: str) -> AssetsDefinition:
    """The asset of one base model: cross-validated, then trained on all training rows."""

    @asset(
        name=name,
        description=_DESCRIPTIONS[name],
        group_name="training",
        owners=OWNERS,
        tags={"layer": "models"},
        kinds={"spark", "mlflow"} | ({"xgboost"} if name in BY_XGBOOST else set()),
        code_version=CODE_VERSION,
        retry_policy=OUTAGE_RETRIES,
        # Read where a search has left them, and not waited for.
        deps=[TUNED_PARAMETERS] if name in BY_XGBOOST else [],
    )
    def trained(
        context: AssetExecutionContext,
        config: CONFIGS[name],  # type: ignore[valid-type]
        train_features: FeatureTable,
        test_features: FeatureTable,
        spark: SharedSpark,
        lake: Lake,
        mlflow: MlflowTracking,
    ) -> Output[TrainedMember]:
        training = train_features.training
        if test_features.training.training_id != training.training_id:
            raise Failure(
                "train_features and test_features are of different trainings: materialise both together.",
                allow_retries=False,
            )
        if name not in training.members:
            without = TrainedMember(training=training, name=name, trained=False)
            return Output(without, metadata={"trained": False, "members": list(training.members)})
        with clear_failures(f"training {name}"):
            parameters = parameters_of(config, lake, name)
            share = float(getattr(config, "warm_start_share", 0))
            return _train(
                context, name, parameters, share, train_features, test_features, spark, lake, mlflow
            )

    return trained


MEMBER_ASSETS = [member_asset(name) for name in MEMBER_NAMES]


def tuned_members(lake: Lake) -> Mapping[str, TunedMember]:
    """What searches have found so far, by member."""
    document = lake.read_json(reference_path(TUNED_PARAMETERS))
    return TunedParameters.model_validate(document).members if document else {}


def parameters_of(config: Config, lake: Lake, name: str) -> dict[str, Any]:
    """What a run's configuration says; what it leaves at the defaults is as the last search found it best."""
    from usedcars_assets.pipeline.members import MEMBERS

    parameters: dict[str, Any] = config.model_dump(exclude={"warm_start_share"})
    if not parameters.pop("tuned", False):
        return parameters
    found = tuned_members(lake).get(name)
    defaults = MEMBERS[name].defaults
    # A search by an earlier code was for other trees: its rate and depth are no good for these.
    tuned = found.parameters if found and set(found.parameters) == set(defaults) else {}
    return {
        parameter: tuned.get(parameter, value) if value == defaults.get(parameter) else value
        for parameter, value in parameters.items()
    }


def _train(
    context: AssetExecutionContext,
    name: str,
    parameters: dict[str, Any],
    warm_start_share: float,
    train: FeatureTable,
    test: FeatureTable,
    spark: SharedSpark,
    lake: Lake,
    mlflow: MlflowTracking,
) -> Output[TrainedMember]:
    from pyspark.ml import PipelineModel
    from pyspark.sql import functions as sf

    from usedcars_assets.pipeline.errors import MissingTableError
    from usedcars_assets.pipeline.members import MEMBERS
    from usedcars_assets.pipeline.members.training import train_member
    from usedcars_assets.pipeline.stored_boosters import boosters_table, read_boosters
    from usedcars_assets.pipeline.tables import read_table, write_table

    training = train.training
    path = f"{training.path}/members/{name}"
    planned = TrainedMember(
        training=training,
        name=name,
        trained=False,
        parameters=parameters,
        code=CODE_VERSION,
        layout=train.layout,
        train_rows=train.rows,
    )
    features = train.features.get(MEMBERS[name].features, ())
    before = _former(lake, name) if warm_start_share else None
    anew = why_anew(before, planned, warm_start_share)
    with spark.step(context) as session:
        former = None
        if before and not anew:
            try:
                former = read_boosters(read_table(session, lake.uri(before.boosters)), features)
                anew = None if former else "a feature of the former trees is gone"
            except MissingTableError:
                anew = "the former trees are gone"
        with train_member(
            name,
            read_table(session, lake.uri(train.path)),
            read_table(session, lake.uri(test.path)),
            parameters,
            training.seed,
            former,
        ) as result:
            spark.save_model(PipelineModel([result.model]), lake.uri(f"{path}/model"))
            for table in ("out_of_fold", "test_predictions"):
                write_table(getattr(result, table), lake.uri(f"{path}/{table}"), overwrite=True)
            in_usd = sf.exp(f"prediction_{name}") * result.smearing
            plot = plot_of(result.test_predictions.withColumn("prediction", in_usd))
        if result.boosters:
            write_table(
                boosters_table(session, result.boosters, features),
                lake.uri(f"{path}/boosters"),
                overwrite=True,
            )
    went_on = before if before and result.boosters and result.boosters.before else None
    experiment_id = mlflow.experiment_id()
    curves = learning_curves(result.curves, result.trees) if result.trees else None
    plots = {PREDICTED_AGAINST_TRUE: plot, **({LEARNING_CURVES: curves} if curves else {})}
    run_id = _log(mlflow, experiment_id, training.mlflow_run_id, result, plots, context.run.run_id)
    reference = planned.model_copy(
        update={
            "trained": True,
            "path": path,
            "mlflow_run_id": run_id,
            "parameters": result.parameters,
            "test": _values(result.test_metrics),
            "cv_mean": result.cv_mean,
            "training_seconds": result.training_seconds,
            "validation_seconds": result.validation_seconds,
            "rows_anew": went_on.rows_anew if went_on else train.rows,
            "trees": result.trees or 0,
            "boosters": f"{path}/boosters" if result.boosters else "",
            "warm_start": went_on.boosters if went_on else "",
        }
    )
    metadata: dict[str, Any] = {
        "trained": True,
        **{f"test_{metric}": value for metric, value in reference.test.items()},
        **{f"cv_{metric}": value for metric, value in result.cv_mean.items()},
        "fold_seconds": sum(training for training, _ in result.fold_seconds),
        "training_seconds": result.training_seconds,
        "validation_seconds": result.validation_seconds,
        "parameters": MetadataValue.json(result.parameters),
        "predicted_against_true": MetadataValue.md(as_markdown_image(plot, "predicted against true price")),
        "mlflow_run": MetadataValue.url(mlflow.run_url(run_id, experiment_id)),
    }
    if curves:
        metadata["learning_curves"] = MetadataValue.md(as_markdown_image(curves, "learning curves"))
    if result.boosters:
        metadata["trees"] = result.trees
        metadata["trees_of_former_training"] = result.boosters.before
        metadata["began"] = (
            f"with the trees of training {went_on.training.training_id}"
            if went_on
            else f"anew, as {anew or 'with more trees the former ones were worse'}"
        )
    return Output(reference, metadata=metadata)


def _former(lake: Lake, name: str) -> TrainedMember | None:
    """The member as it was trained last."""
    document = lake.read_json(reference_path(AssetKey(name)))
    former = TrainedMember.model_validate(document) if document else None
    return former if former and former.trained else None


def _values(metrics: Any) -> dict[str, float]:
    from dataclasses import asdict

    return asdict(metrics)


def _log(
    mlflow: MlflowTracking,
    experiment_id: str,
    parent: str,
    result: "MemberResult",
    plots: dict[str, bytes],
    dagster_run_id: str,
) -> str:
    """A nested run for the member, and one below it for each fold."""
    from usedcars_assets.registry.tracking import log, log_curve, log_file, named, nested_run, over_folds

    client = mlflow.client()
    with nested_run(client, experiment_id, parent, result.name, dagster_run_id) as run_id:
        folds = zip(result.fold_metrics, result.fold_seconds, strict=True)
        for fold, (metrics, (training_seconds, validation_seconds)) in enumerate(folds):
            name = f"{result.name}-fold-{fold}"
            with nested_run(client, experiment_id, run_id, name, dagster_run_id) as fold_run:
                values = {
                    **named("validation", metrics),
                    "training_seconds": training_seconds,
                    "validation_seconds": validation_seconds,
                }
                log(client, fold_run, parameters=result.parameters, metrics=values, tags={"fold": str(fold)})
                if result.curves:
                    log_curve(client, fold_run, result.curves[fold])
        log(
            client,
            run_id,
            parameters=result.parameters,
            metrics={
                **named("train", result.train_metrics),
                **named("test", result.test_metrics),
                **over_folds(result.cv_mean, result.cv_deviation),
                "training_seconds": result.training_seconds,
                "validation_seconds": result.validation_seconds,
                "smearing": result.smearing,
                **({"trees": result.trees} if result.trees else {}),
                **({"trees_of_former_training": result.boosters.before} if result.boosters else {}),
            },
            tags={"member": result.name},
        )
        for file, plot in plots.items():
            log_file(client, run_id, file, plot)
    return run_id
