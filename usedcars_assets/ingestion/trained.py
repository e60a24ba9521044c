"""Which batch versions the latest model knows: the record that the sensor compares incoming/ with."""

from collections.abc import Mapping

from pydantic import BaseModel

from usedcars_assets.resources.lake import Lake

_PATH = "trained.json"


class TrainedBatches(BaseModel, frozen=True):
    """Written whole by each training that registers a version."""

    training_id: str
    model_version: str
    trained_at: float  # seconds since the epoch
    fingerprints: Mapping[str, str]  # by batch, also of those that the training window left out


def read_trained(lake: Lake) -> TrainedBatches | None:
    """The record of the latest training; None before the first."""
    content = lake.read_json(_PATH)
    return None if content is None else TrainedBatches.model_validate(content)


def write_trained(lake: Lake, trained: TrainedBatches) -> None:
    """Replaces the record."""
    lake.write_json(_PATH, trained.model_dump())
