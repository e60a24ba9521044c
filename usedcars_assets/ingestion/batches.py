"""The batches as Dagster sees them: one dynamic partition each, and the raw listings they hold."""

from dagster import AssetSpec, DynamicPartitionsDefinition

BATCHES = DynamicPartitionsDefinition(name="batches")

TRAINING_TAG = "usedcars/training"
"""Run tag of every training; at most one is under way."""
BATCH_AT_FAULT_TAG = "usedcars/batch_at_fault"
"""Run tag of a training that failed as one of its batches was bad, changed or went away."""

OWNERS = ["team:pricing"]

raw_listings = AssetSpec(
    "raw_listings",
    description="Listings as dealers publish them: CSV files of 66 columns, put into incoming/ by others.",
    group_name="ingestion",
    owners=OWNERS,
    tags={"layer": "raw"},
    kinds={"hdfs", "csv"},
    partitions_def=BATCHES,
)
