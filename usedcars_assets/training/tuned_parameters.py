"""A search for better parameters of the boosted trees, on demand; the next trainings take what it finds."""

from typing import TYPE_CHECKING, Any

from dagster import AssetExecutionContext, Config, Failure, MetadataValue, Output, asset
from pydantic import Field

from usedcars_assets.failures import OUTAGE_RETRIES, clear_failures
from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.metadata import table_markdown
from usedcars_assets.references import FeatureTable, TunedMember, TunedParameters
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.settings import defaults_from_environment
from usedcars_assets.training.members import (
    BY_XGBOOST,
    CONFIGS,
    TUNED_PARAMETERS,
    parameters_of,
    tuned_members,
)
from usedcars_assets.training.plots import as_markdown_image, search_history

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from usedcars_assets.pipeline.hyperparameter_search import Trial

SEARCH_HISTORY = "search_history.png"


@defaults_from_environment("search")
class SearchConfig(Config):
    """How far a search goes; defaults by USEDCARS_SEARCH_<FIELD>."""

    members: list[str] = Field(default=list(BY_XGBOOST), description=f"Of {', '.join(BY_XGBOOST)}.")
    trials: int = Field(default=24, ge=1, le=1000, description="Parameters to try for each member.")
    at_once: int = Field(default=2, ge=1, le=100, description="Trials at the same time, a Spark task each.")
    most_rows: int = Field(default=100_000, ge=100, description="More rows are thinned out to these.")
    seed: int = Field(default=20, description="Seed of the trees and of what is tried.")


@asset(
    key=TUNED_PARAMETERS,
    description="The best parameters of the boosted trees that a search has found.",
    group_name="training",
    owners=OWNERS,
    tags={"layer": "models"},
    kinds={"spark", "optuna", "mlflow"},
    code_version="1",
    retry_policy=OUTAGE_RETRIES,
)
def tuned_parameters(
    context: AssetExecutionContext,
    config: SearchConfig,
    train_features: FeatureTable,
    spark: SharedSpark,
    lake: Lake,
    mlflow: MlflowTracking,
) -> Output[TunedParameters]:
    """Searches on the rows of the last training; a member left out keeps what was found before."""
    if not config.members or set(config.members) - set(BY_XGBOOST):
        raise Failure(
            f"The members {config.members} are not one or more of {', '.join(BY_XGBOOST)}: "
            "correct them in the run's configuration.",
            allow_retries=False,
        )
    found: dict[str, TunedMember] = {}
    metadata: dict[str, Any] = {"training": train_features.training.training_id}
    with clear_failures("searching for parameters"), spark.step(context) as session:
        from usedcars_assets.pipeline.tables import read_table

        rows = read_table(session, lake.uri(train_features.path))
        for name in config.members:
            start = parameters_of(CONFIGS[name](), lake, name)
            tuned, trials, history = _search(
                context.run.run_id, config, name, start, rows, train_features, mlflow
            )
            found[name] = tuned
            metadata |= {
                f"{name}_error": tuned.error,
                f"{name}_gain": 1 - tuned.error / tuned.error_before,
                f"{name}_trials": MetadataValue.md(table_markdown([_row(trial) for trial in trials])),
                f"{name}_history": MetadataValue.md(as_markdown_image(history, "errors of the trials")),
                f"{name}_mlflow_run": MetadataValue.url(
                    mlflow.run_url(tuned.mlflow_run_id, mlflow.experiment_id())
                ),
            }
        former = tuned_members(lake)
    reference = TunedParameters(
        training_id=train_features.training.training_id, rows=train_features.rows, members={**former, **found}
    )
    return Output(reference, metadata=metadata)


def _search(
    dagster_run_id: str,
    config: SearchConfig,
    name: str,
    start: dict[str, Any],
    rows: "DataFrame",
    table: FeatureTable,
    mlflow: MlflowTracking,
) -> "tuple[TunedMember, list[Trial], bytes]":
    """A run below that of the training, and one below it for each trial; plots their errors, too."""
    from usedcars_assets.pipeline.hyperparameter_search import search
    from usedcars_assets.registry.tracking import log, log_file, nested_run

    client, experiment_id = mlflow.client(), mlflow.experiment_id()
    parent = table.training.mlflow_run_id
    with nested_run(client, experiment_id, parent, f"search {name}", dagster_run_id) as run_id:

        def told(trial: "Trial") -> None:
            with nested_run(
                client, experiment_id, run_id, f"trial {trial.number}", dagster_run_id
            ) as of_trial:
                values = {f"fold_{fold}_error": error for fold, error in enumerate(trial.fold_errors)}
                log(
                    client,
                    of_trial,
                    parameters=trial.parameters,
                    metrics={"error": trial.error, "trees": trial.trees, "seconds": trial.seconds, **values},
                    tags={"member": name, "pruned": str(trial.pruned).lower()},
                )

        trials = search(
            rows,
            name,
            start,
            trials=config.trials,
            at_once=config.at_once,
            most_rows=config.most_rows,
            seed=config.seed,
            told=told,
        )
        whole = [trial for trial in trials if not trial.pruned]
        best, first = min(whole, key=lambda trial: trial.error), min(whole, key=lambda trial: trial.number)
        tuned = TunedMember(
            parameters=best.parameters,
            error=best.error,
            error_before=first.error,
            trials=len(trials),
            pruned=len(trials) - len(whole),
            mlflow_run_id=run_id,
        )
        log(
            client,
            run_id,
            parameters=best.parameters,
            metrics={"error": best.error, "error_before": first.error, "trees": best.trees},
            tags={"member": name, "best_trial": str(best.number)},
        )
        history = search_history(trials)
        log_file(client, run_id, SEARCH_HISTORY, history)
    return tuned, trials, history


def _row(trial: "Trial") -> dict[str, str]:
    return {
        "trial": str(trial.number),
        "error": f"{trial.error:.4f}",
        "given up after": f"{len(trial.fold_errors)} folds" if trial.pruned else "",
        "trees": str(trial.trees),
        "seconds": f"{trial.seconds:.1f}",
        **{
            parameter: f"{value:.3g}" if isinstance(value, float) else str(value)
            for parameter, value in trial.parameters.items()
        },
    }
