"""Local copies of model versions, from a real MLflow, shared by processes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from streaming_app.model_registry import fetch_model, remember_served
from streaming_app.settings import ServingSettings

pytestmark = pytest.mark.services


@pytest.fixture
def settings(platform: Any, tmp_path: Path) -> ServingSettings:
    return ServingSettings(
        mlflow_tracking_uri=platform.environment["USEDCARS_MLFLOW_TRACKING_URI"],
        registered_model=f"price-{uuid4().hex[:8]}",
        home=tmp_path,
    )


def test_of_two_that_download_a_version_at_once_the_copy_of_the_first_stays(
    registry: Any, settings: ServingSettings
) -> None:
    version = registry.register(settings.registered_model)

    def fetch(_: int) -> int:
        return fetch_model(settings, version).folder.stat().st_ino

    with ThreadPoolExecutor(4) as together:
        assert len(set(together.map(fetch, range(4)))) == 1


def test_a_copy_that_was_not_wholly_removed_is_made_anew(registry: Any, settings: ServingSettings) -> None:
    version = registry.register(settings.registered_model)
    left = settings.model_folder / settings.registered_model / version / "sparkml"
    left.mkdir(parents=True)
    assert (fetch_model(settings, version).folder / "sparkml" / "stages").is_dir()


def test_the_version_in_service_and_one_other_are_kept(registry: Any, settings: ServingSettings) -> None:
    versions = [registry.register(settings.registered_model) for _ in range(3)]
    copies = [fetch_model(settings, version) for version in versions]
    remember_served(settings, copies[2])
    assert [copy.folder.exists() for copy in copies] == [False, True, True]
    kept = {entry.name for entry in copies[2].folder.parent.iterdir()}
    assert kept == {*versions[1:], "serving.json"}
