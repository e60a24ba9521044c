"""Trains a registered version again, from the rows that were exported with it, and compares the errors."""

import math
import time

from dagster import Config, Failure, MetadataValue, OpExecutionContext, Output, job, op
from pydantic import Field

from usedcars_assets.executor import threads_executor
from usedcars_assets.failures import clear_failures
from usedcars_assets.features.tables import make_feature_tables
from usedcars_assets.metadata import table_markdown
from usedcars_assets.references import REFERENCE, TrainingExport
from usedcars_assets.registry.training_export import export_record
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.spark import SharedSpark

TOLERANCE = 1e-6  # relative


class ReproductionConfig(Config):
    """Which version to train again."""

    model_version: str = Field(pattern=r"^[0-9]+$", description="Version of the registered model.")


@op(description="Trains the version again and fails if any error on the test rows differs.")
def reproduce(
    context: OpExecutionContext, config: ReproductionConfig, spark: SharedSpark, lake: Lake
) -> Output[None]:
    """Compares each metric of each member and of the stack with what was recorded."""
    with clear_failures(f"reproducing version {config.model_version}"):
        content = lake.read_json(export_record(config.model_version))
        if content is None:
            raise Failure(
                f"Version {config.model_version} has no export: materialise training_export in its training.",
                allow_retries=False,
            )
        export = REFERENCE.validate_python(content)
        assert isinstance(export, TrainingExport)  # noqa: S101  narrows the type
        with spark.step(context):
            found = retrain(spark, lake, export, context.run.run_id)
    rows = [
        {
            "model": name,
            "metric": metric,
            "recorded": repr(recorded),
            "reproduced": repr(found[name][metric]),
        }
        for name, metrics in export.test.items()
        for metric, recorded in metrics.items()
    ]
    different = [
        f"{name} {metric}"
        for name, metrics in export.test.items()
        for metric, recorded in metrics.items()
        if not math.isclose(recorded, found[name][metric], rel_tol=TOLERANCE)
    ]
    metadata = {"errors": MetadataValue.md(table_markdown(rows))}
    if different:
        raise Failure(
            f"Version {config.model_version} trained again differs in {', '.join(different)}: "
            "compare the library versions logged with it and the parameters in its export.",
            metadata=metadata,
            allow_retries=False,
        )
    return Output(None, metadata=metadata)


def retrain(
    spark: SharedSpark, lake: Lake, export: TrainingExport, run_id: str
) -> dict[str, dict[str, float]]:
    """Errors on the test rows of the members and of `stacked_model`, trained on nothing but the export.

    And, where the version went on from a former training, on the boosters of that.
    """
    from dataclasses import asdict

    from usedcars_assets.pipeline.features import FeatureSettings
    from usedcars_assets.pipeline.members import MEMBERS
    from usedcars_assets.pipeline.members.training import train_member
    from usedcars_assets.pipeline.stacking import train_stack
    from usedcars_assets.pipeline.stored_boosters import read_boosters
    from usedcars_assets.pipeline.tables import read_table

    training = export.training.model_copy(update={"training_id": f"reproduction-{run_id}"})
    settings = FeatureSettings(**export.feature_settings)  # type: ignore[arg-type]
    try:
        train, test, _ = make_feature_tables(spark, lake, training, export.path, settings, time.monotonic())
        session = spark.spark_session
        tables = read_table(session, lake.uri(train.path)), read_table(session, lake.uri(test.path))
        former = {
            name: read_boosters(read_table(session, lake.uri(path)), train.features[MEMBERS[name].features])
            for name, path in export.warm_starts.items()
        }
        results = {
            name: train_member(name, *tables, parameters, training.seed, former.get(name))
            for name, parameters in export.parameters.items()
        }
        stack = train_stack(
            {name: result.out_of_fold for name, result in results.items()},
            {name: result.test_predictions for name, result in results.items()},
        )
        for result in results.values():
            result.release()
        of_members = {name: asdict(result.test_metrics) for name, result in results.items()}
        return {**of_members, "stacked_model": asdict(stack.test_metrics)}
    finally:
        lake.delete(training.path)


@job(
    executor_def=threads_executor,
    description="Trains a registered version again from its own exported rows; the errors must be the same.",
)
def reproduction() -> None:
    """The one op of this job."""
    reproduce()
