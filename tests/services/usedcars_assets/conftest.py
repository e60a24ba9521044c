"""A lake of one's own on the real HDFS, a Dagster instance, and batches to put into it."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import fsspec
import pytest
from dagster import DagsterInstance, instance_for_test
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.conftest import Platform
from tests.services.usedcars_assets.raw_rows import raw_csv, raw_rows
from usedcars_assets.failures import UnavailableError
from usedcars_assets.ingestion.claims import BatchVersion
from usedcars_assets.ingestion.incoming import look_at_batch
from usedcars_assets.resources.configured import configured_resources
from usedcars_assets.resources.lake import Lake
from usedcars_assets.settings import Settings

pytestmark = pytest.mark.services


# After its restart the NameNode waits for the DataNode's report, and reads fail until it has come.
once_hdfs_is_back = retry(
    retry=retry_if_exception_type(UnavailableError),
    wait=wait_fixed(0.5),
    stop=stop_after_delay(60),
    reraise=True,
)


def version_of(lake: Lake, batch: str) -> BatchVersion:
    """What is delivered under this name now."""
    found = look_at_batch(lake, batch, known={})
    assert found is not None
    return BatchVersion(batch=batch, fingerprint=found[0].fingerprint)


class Source:
    """Whoever delivers batches: uploads whole ones as agreed, and does what goes wrong in life."""

    def __init__(self, settings: Settings) -> None:
        address = urlsplit(settings.webhdfs_url)
        self.files = fsspec.filesystem(
            "webhdfs", host=address.hostname, port=address.port, user=settings.hdfs_user
        )
        self.incoming = f"{urlsplit(settings.lake_uri).path}/incoming"
        self.files.makedirs(self.incoming, exist_ok=True)

    def deliver(self, batch: str, *contents: bytes) -> None:
        """Uploads under another name, renames, says that it is complete."""
        attempt = f"{self.incoming}/.{batch}.uploading-{uuid.uuid4().hex[:8]}"
        self.files.makedirs(attempt)
        for number, content in enumerate(contents):
            self.files.pipe_file(f"{attempt}/part-{number}.csv", content)
        self.files.mv(attempt, f"{self.incoming}/{batch}")
        self.complete(batch)

    def complete(self, batch: str) -> None:
        self.files.pipe_file(f"{self.incoming}/{batch}/_SUCCESS", b"")

    def put(self, path: str, content: bytes = b"") -> None:
        self.files.pipe_file(f"{self.incoming}/{path}", content)

    def withdraw(self, path: str) -> None:
        self.files.rm(f"{self.incoming}/{path}", recursive=True)


@pytest.fixture
def lake_settings(platform: Platform) -> Settings:
    """The real services, with an empty folder of HDFS as the lake."""
    values = Settings()  # type: ignore[call-arg]
    name = f"test-{uuid.uuid4().hex[:8]}"
    root = values.lake_uri.removesuffix("/usedcars") + f"/tests/{name}"
    return values.model_copy(update={"lake_uri": root, "mlflow_experiment": name})


@pytest.fixture
def source(lake_settings: Settings) -> Source:
    return Source(lake_settings)


@pytest.fixture
def resources(lake_settings: Settings) -> dict[str, Any]:
    return configured_resources(lake_settings)


@pytest.fixture
def lake(resources: dict[str, Any]) -> Lake:
    found = resources["lake"]
    assert isinstance(found, Lake)
    return found


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with instance_for_test() as instance:
        yield instance


@pytest.fixture
def batch_of() -> Callable[..., bytes]:
    """A good batch of so many rows; other seeds make other rows."""

    def make(rows: int, seed: int = 1) -> bytes:
        return raw_csv(raw_rows(rows, seed, first_id=seed * 1_000_000))

    return make
