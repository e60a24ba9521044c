"""The rows that a version was trained on, kept beside all that is needed to train it again."""

import time
from typing import Any

from dagster import AssetExecutionContext, AssetIn, MetadataValue, Output, asset

from usedcars_assets.failures import OUTAGE_RETRIES, clear_failures
from usedcars_assets.features.tables import in_stable_order
from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.references import (
    FittedFeatures,
    RegisteredVersion,
    StackedModel,
    TrainedMember,
    TrainingExport,
)
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.training.members import MEMBER_NAMES


@asset(
    name="training_export",
    ins={name: AssetIn(dagster_type=TrainedMember) for name in MEMBER_NAMES},
    description="The cleaned rows that a model version was trained on, with their split and fold.",
    group_name="registry",
    owners=OWNERS,
    tags={"layer": "exports"},
    kinds={"spark", "parquet", "hdfs"},
    code_version="1",
    retry_policy=OUTAGE_RETRIES,
)
def training_export(
    context: AssetExecutionContext,
    registered_model: RegisteredVersion,
    stacked_model: StackedModel,
    feature_pipeline: FittedFeatures,
    spark: SharedSpark,
    lake: Lake,
    **each: TrainedMember,
) -> Output[TrainingExport]:
    """Writes the rows to exports/model_version=<N>, and the record that names them last."""
    from usedcars_assets.pipeline.tables import read_table, write_table

    started = time.monotonic()
    training, version = registered_model.training, registered_model.version
    path = f"exports/model_version={version}"
    with clear_failures("exporting the training rows"), spark.step(context) as session:
        split = read_table(session, lake.uri(feature_pipeline.split_path))
        write_table(in_stable_order(split), lake.uri(path), overwrite=True)
        rows = read_table(session, lake.uri(path)).count()
    members = [each[name] for name in MEMBER_NAMES if each[name].trained and name in training.members]
    export = TrainingExport(
        training=training,
        version=version,
        path=path,
        rows=rows,
        feature_settings=feature_pipeline.settings,
        parameters={member.name: member.parameters for member in members},
        warm_starts={member.name: member.warm_start for member in members if member.warm_start},
        test={"stacked_model": stacked_model.test, **{member.name: member.test for member in members}},
    )
    with clear_failures("exporting the training rows"):
        lake.write_json(export_record(version), export.model_dump(mode="json"))
    metadata: dict[str, Any] = {
        "path": MetadataValue.path(lake.uri(path)),
        "dagster/row_count": rows,
        "seconds": time.monotonic() - started,
    }
    return Output(export, metadata=metadata)


def export_record(version: str) -> str:
    """Where the record of a version's export lies; it is there once the rows are."""
    return f"exports/model_version={version}.json"
