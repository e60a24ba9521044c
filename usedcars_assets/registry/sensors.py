"""Sensors that end the MLflow run of a Dagster run that died without doing so itself."""

from dagster import (
    DagsterRunStatus,
    DefaultSensorStatus,
    RunFailureSensorContext,
    RunStatusSensorContext,
    run_failure_sensor,
    run_status_sensor,
)

from usedcars_assets.registry.lost_runs import end_lost_runs
from usedcars_assets.resources.mlflow import MlflowTracking


@run_failure_sensor(
    name="mlflow_after_failure",
    default_status=DefaultSensorStatus.RUNNING,
    description="Ends the MLflow runs of Dagster runs that failed, also of those whose process was killed.",
)
def mlflow_after_failure(context: RunFailureSensorContext, mlflow: MlflowTracking) -> None:
    """One failed run."""
    end_lost_runs(context.instance, mlflow)


@run_status_sensor(
    name="mlflow_after_cancellation",
    run_status=DagsterRunStatus.CANCELED,
    default_status=DefaultSensorStatus.RUNNING,
    description="Ends the MLflow runs of Dagster runs that were cancelled.",
)
def mlflow_after_cancellation(context: RunStatusSensorContext, mlflow: MlflowTracking) -> None:
    """One cancelled run."""
    end_lost_runs(context.instance, mlflow)
