"""The real services, and one Spark session, for all tests of a session."""

import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pyspark.sql import SparkSession
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling

from local_platform.class_archive import class_archive, make_class_archive, with_class_archive
from local_platform.jars import fetch_jars
from local_platform.java import find_java
from local_platform.platform import bring_up, take_down
from local_platform.settings import PlatformSettings
from local_platform.supervisor import Supervisor
from usedcars_assets.pipeline.spark_session import spark_settings

# pyspark.ml.connect, which MLflow imports, takes a main module without a file, as that of a test process
# of pytest-xdist, for its own doctests, and exits.
vars(sys.modules["__main__"]).setdefault("__file__", __file__)

REPOSITORY = Path(__file__).resolve().parent.parent
# Jars are fetched once for the checkout, not once a test session.
JARS = REPOSITORY / ".usedcars" / "jars"
# What a platform reads itself: one test's platform must not change another's.
PLATFORM_VARIABLES = {f"USEDCARS_{name.upper()}" for name in PlatformSettings.model_fields}
# A test's JVM lives for a minute or two: on two cores the second compiler takes half of that and more.
# Without it Java has 48 MB for code, which Spark fills, and then compiles all over again.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m")
os.environ.update(with_class_archive(class_archive(JARS, find_java())))
BASIC_SERVICES = ("datanode", "kafka", "mlflow")
# What is free now is taken in a moment by another test process: no two ports of a platform, nor of what tests
# start beside serving, may lie apart by a multiple of it.
PORTS_APART = 600
# Folders of tests by what they share that is dear to make, the longest first.
SHARED_PARTS = {
    "tests/services/streaming_app": "a platform for the streaming application",
    "tests/services/simulation": "a platform for the streaming application",
    "tests/scenarios": "a story",
    "tests/services/usedcars_assets": "a platform for the assets",
    "tests/unit/pipeline/small_training": "the small training",
}


class BySharedParts(LoadScopeScheduling):
    """Gives whole files to the test processes, and to one of them all that share such a part."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return SHARED_PARTS.get(str(Path(file).parent), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> BySharedParts:
    """In place of the one that --dist names."""
    return BySharedParts(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that all test processes end at about the same time."""
    parts = list(SHARED_PARTS)

    def place(item: pytest.Item) -> int:
        folder = str(item.path.parent.relative_to(REPOSITORY))
        return parts.index(folder) if folder in parts else len(parts)

    items.sort(key=place)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=1, help="how often the active serving process is killed")


@dataclass(frozen=True)
class Platform:
    """A real platform, in a folder and on ports of its own."""

    settings: PlatformSettings

    @property
    def environment(self) -> dict[str, str]:
        """What its services read; most of it is also set in os.environ while the fixture lives."""
        return self.settings.service_environment()

    @property
    def home(self) -> Path:
        return self.settings.home_folder

    def bring_up(self, *services: str) -> None:
        """Start more of its services (all without a name) and wait until they are ready."""
        bring_up(self.settings, services, print)

    @contextmanager
    def without(self, service: str) -> Iterator[None]:
        """An outage of a service; what needs it, too, is up again at the end."""
        Supervisor(self.settings).stop(service)
        try:
            yield
        finally:
            self.bring_up(*BASIC_SERVICES)


def free_port_offset() -> int:
    """An offset at which every port of the platform is free."""
    names = [name.removesuffix("_port") for name in PlatformSettings.model_fields if name.endswith("_port")]
    defaults = [PlatformSettings(port_offset=0).port(name) for name in names]
    assert all((one - other) % PORTS_APART for one, other in combinations(defaults, 2))
    # Processes of one session keep apart; two sessions that begin at once look in different places.
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    # Below the ports that the kernel gives to outgoing connections, any of which may be taken in a moment.
    offsets = range(10_000 + PORTS_APART * process, 22_500, PORTS_APART * processes)
    for offset in random.sample(offsets, k=len(offsets)):
        settings = PlatformSettings(port_offset=offset)
        if all(port_is_free(settings.port(name)) for name in names):
            return offset
    raise RuntimeError("no range of free ports was found for the test platform: close what holds so many")


def port_is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="session")
def jars() -> Path:
    """Where the jars of the checkout lie."""
    return JARS


@pytest.fixture(scope="session")
def free_offset() -> Callable[[], int]:
    """For tests that start a platform of their own."""
    return free_port_offset


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """HDFS, Kafka and MLflow, started once; stopped at the end whatever happened."""
    with (
        TemporaryDirectory(prefix="uc-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        settings = PlatformSettings(
            home=Path(folder), jars=JARS, port_offset=free_port_offset(), training_memory_mb=1536
        )
        for name, value in settings.service_environment().items():
            if name not in PLATFORM_VARIABLES:
                patch.setenv(name, value)
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # outages are said sooner
        try:
            bring_up(settings, BASIC_SERVICES, print)
            yield Platform(settings)
        finally:
            take_down(settings, print)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One Spark session with the Kafka connector."""
    fetch_jars(JARS, find_java(), ["spark-kafka"])
    make_class_archive(JARS, find_java())
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.setdefault("HADOOP_USER_NAME", "usedcars")
    session = (
        SparkSession.builder.master("local[2]")
        .appName("usedcars tests")
        .config("spark.driver.memory", "2g")
        .config("spark.driver.extraJavaOptions", "-XX:+UseParallelGC")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.jars", ",".join(map(str, JARS.glob("spark-kafka/*.jar"))))
        .config("spark.ui.enabled", "false")
        .config("spark.hadoop.dfs.client.use.datanode.hostname", "true")
        .config(map=spark_settings(shuffle_partitions=2))
        .getOrCreate()
    )
    yield session
    session.stop()
