"""Where the time of a training went: the Spark stages of each step, kept with the version."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dagster import AssetExecutionContext, MetadataValue, Output, asset

from usedcars_assets.failures import OUTAGE_RETRIES, clear_failures
from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.metadata import table_markdown
from usedcars_assets.references import ModelCard, StageTimeline
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.training.plots import as_markdown_image, timeline

if TYPE_CHECKING:
    from usedcars_assets.pipeline.stage_times import StageTime

STAGES, TIMELINE = "stages.json", "stages.png"
_MEGABYTE = 1e6


@asset(
    name="stage_timeline",
    description="Where the time of the training went: the Spark stages of each of its steps.",
    group_name="registry",
    owners=OWNERS,
    tags={"layer": "models"},
    kinds={"spark", "mlflow"},
    code_version="1",
    retry_policy=OUTAGE_RETRIES,
)
def stage_timeline(
    context: AssetExecutionContext, model_card: ModelCard, spark: SharedSpark, mlflow: MlflowTracking
) -> Output[StageTimeline]:
    """Writes the timeline of this run, as JSON and as a picture, to the MLflow run of the training."""
    from usedcars_assets.pipeline.stage_times import busy_seconds, stage_times, step_times
    from usedcars_assets.registry.tracking import log, log_file

    stages = stage_times(spark.events(), f"{context.run.run_id}/")
    reference = StageTimeline(version=model_card.version, mlflow_run_id=model_card.mlflow_run_id)
    if not stages:
        # A run that was resumed behind the training, or a session whose events go elsewhere.
        context.log.warning("This run has logged no Spark stage of the training: nothing was written.")
        return Output(reference, metadata={"spark_stages": 0})
    steps = step_times(stages)
    picture = timeline(stages)
    seconds = max(stage.ended for stage in stages) - stages[0].started
    totals = {
        "spark_seconds": seconds,
        "spark_busy_seconds": busy_seconds(stages),
        "spark_cpu_seconds": sum(step.cpu_seconds for step in steps),
        "spark_stages": len(stages),
        "spark_tasks": sum(step.tasks for step in steps),
    }
    run_id = model_card.mlflow_run_id
    with clear_failures("writing the timeline"):
        client = mlflow.client()
        document = {**totals, "steps": [asdict(step) for step in steps], "stages": _documents(stages)}
        client.log_dict(run_id, document, STAGES)
        log_file(client, run_id, TIMELINE, picture)
        log(client, run_id, metrics=totals)
        experiment_id = mlflow.experiment_id()
    rows = [
        {
            "step": step.step,
            "seconds": f"{step.seconds:.1f}",
            "stages": f"{step.stages:,}",
            "tasks": f"{step.tasks:,}",
            "CPU seconds": f"{step.cpu_seconds:.1f}",
            "MB read": f"{step.read_bytes / _MEGABYTE:,.1f}",
            "MB shuffled": f"{step.shuffled_bytes / _MEGABYTE:,.1f}",
            "MB written": f"{step.written_bytes / _MEGABYTE:,.1f}",
        }
        for step in steps
    ]
    metadata: dict[str, Any] = {
        "timeline": MetadataValue.md(as_markdown_image(picture, "Spark stages of each step over time")),
        "steps": MetadataValue.md(table_markdown(rows)),
        "version": model_card.version,
        **totals,
        "mlflow_run": MetadataValue.url(mlflow.run_url(run_id, experiment_id)),
    }
    return Output(reference, metadata=metadata)


def _documents(stages: "Sequence[StageTime]") -> list[dict[str, Any]]:
    """Times beside the first stage: a picture of the training, not of the clock."""
    began = stages[0].started
    return [{**asdict(stage), "started": round(stage.started - began, 3)} for stage in stages]
