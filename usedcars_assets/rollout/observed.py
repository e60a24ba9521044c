"""What comes of a version in service: assets that serving and live metrics make, and Dagster observes."""

from dagster import AssetSpec

from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.rollout.serving_rollout import serving_rollout


def observed_asset(name: str, description: str, kinds: set[str]) -> AssetSpec:
    """An asset behind the rollout, told by records in Kafka."""
    return AssetSpec(
        name,
        deps=[serving_rollout],
        description=description,
        group_name="rollout",
        owners=OWNERS,
        tags={"layer": "serving"},
        kinds=kinds,
    )
