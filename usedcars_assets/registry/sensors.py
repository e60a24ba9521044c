"""The sensor that ends the MLflow runs of Dagster runs that died without doing so themselves."""

from dagster import DefaultSensorStatus, SensorEvaluationContext, SensorResult, sensor

from usedcars_assets.failures import explain
from usedcars_assets.registry.lost_runs import end_lost_runs
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.settings import settings


@sensor(
    name="lost_mlflow_runs",
    # A sensor of run failures is asked once for each; one that looks again ends them also after an outage.
    minimum_interval_seconds=settings().lost_runs_interval_seconds,
    default_status=DefaultSensorStatus.RUNNING,
    description="Ends the MLflow runs of trainings that failed, were cancelled, or whose process was killed.",
)
def lost_mlflow_runs(context: SensorEvaluationContext, mlflow: MlflowTracking) -> SensorResult:
    """One look at what is left running."""
    try:
        ended = end_lost_runs(context.instance, mlflow)
    except Exception as error:
        return SensorResult(skip_reason=explain(error, "ending lost MLflow runs")[0])
    return SensorResult(skip_reason=f"Ended {', '.join(ended)}." if ended else "None was left running.")
