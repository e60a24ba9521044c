"""Charts rendered as an installation would render them, as objects of the Kubernetes client."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes import client

REPOSITORY = Path(__file__).resolve().parents[3]
VALUES = REPOSITORY / "helm_values"
NAMESPACE = "usedcars"
# Without a cluster helm takes that of its own build, which may name an ancient one.
KUBERNETES = ("--kube-version", "1.34.0")

T = TypeVar("T")


@dataclass(frozen=True)
class Installation:
    """A release: its chart, and the files of values it is installed with."""

    release: str
    chart: str  # a folder of this repository, or the name of an official chart
    official: bool = False

    def chart_folder(self) -> Path:
        """Where the chart lies; skips the test where an official one is not at hand."""
        return official_chart(self.chart) if self.official else REPOSITORY / self.chart

    def values(self, size: str) -> list[Path]:
        """The values for a cluster of that size."""
        files = [VALUES / f"{self.release}.yaml"] if self.official else []
        return [*files, VALUES / "small" / f"{self.release}.yaml"] if size == "small" else files


INSTALLATIONS = {
    installation.release: installation
    for installation in (
        Installation("platform", "helm_values/charts/platform"),
        Installation("postgres", "helm_values/charts/postgres"),
        Installation("hdfs", "helm_values/charts/hdfs"),
        Installation("kafka", "helm_values/charts/kafka"),
        Installation("streaming", "streaming_app/chart"),
        Installation("mlflow", "mlflow", official=True),
        Installation("dagster", "dagster", official=True),
    )
}
OWN = [release for release, installation in INSTALLATIONS.items() if not installation.official]
SIZES = ("usual", "small")


def official_chart(name: str) -> Path:
    """The folder of an official chart, or a skipped test."""
    beside = REPOSITORY.parent / "shared" / "charts"
    folder = Path(os.environ.get("USEDCARS_TEST_CHARTS", beside)) / name
    if not folder.is_dir():
        pytest.skip(f"there is no chart {folder}: name the folder of the charts in USEDCARS_TEST_CHARTS")
    return folder


@cache
def helm() -> str:
    """The helm program, or a skipped test."""
    found = shutil.which("helm") or shutil.which("helm", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("there is no helm on PATH, and make helm has not installed one")
    return found


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What helm says."""
    return subprocess.run([helm(), *arguments], capture_output=True, text=True, check=False)


def template(
    release: str, size: str = "usual", values: Mapping[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """The outcome of rendering a release, with further values on top."""
    installation = INSTALLATIONS[release]
    arguments = ["template", release, str(installation.chart_folder()), "--namespace", NAMESPACE, *KUBERNETES]
    for file in installation.values(size):
        arguments += ["--values", str(file)]
    further = yaml.safe_dump(dict(values or {}))
    return subprocess.run(
        [helm(), *arguments, "--values", "-"], input=further, capture_output=True, text=True, check=False
    )


@dataclass(frozen=True)
class Rendered:
    """What would be installed."""

    documents: tuple[dict[str, Any], ...]

    def every(self, kind: type[T]) -> list[T]:
        """The objects of a kind, such as client.V1Deployment; a field that the kind lacks is an error."""
        found = (each for each in self.documents if each["kind"] == kind.__name__.removeprefix("V1"))
        return [k8s_model_from_dict(kind, k8s_snake_case_dict(kind, _without_nulls(each))) for each in found]

    def one(self, kind: type[T], name: str) -> T:
        """The object of that kind and name."""
        (found,) = (each for each in self.every(kind) if vars(each)["_metadata"].name == name)
        return found

    def pods(self) -> Iterator[tuple[str, Any]]:
        """The specifications of all pods, with the names of what makes them."""
        for kind in (client.V1Deployment, client.V1StatefulSet, client.V1Job):
            for each in self.every(kind):
                yield f"{kind.__name__.removeprefix('V1')} {each.metadata.name}", each.spec.template.spec
        for each in self.every(client.V1CronJob):
            yield f"CronJob {each.metadata.name}", each.spec.job_template.spec.template.spec


@cache
def _rendered(release: str, size: str, further: str) -> Rendered:
    outcome = template(release, size, yaml.safe_load(further))
    assert outcome.returncode == 0, outcome.stderr
    return Rendered(tuple(each for each in yaml.safe_load_all(outcome.stdout) if each))


def rendered(release: str, size: str = "usual", values: Mapping[str, Any] | None = None) -> Rendered:
    """What a release would install."""
    return _rendered(release, size, yaml.safe_dump(dict(values or {})))


def refusal(release: str, values: Mapping[str, Any]) -> str:
    """Why helm does not render a release with these values."""
    outcome = template(release, values=values)
    assert outcome.returncode != 0, f"helm took {values}"
    return outcome.stderr


def containers(pod: Any) -> list[Any]:
    """All containers of a pod, also those that run first."""
    return [*(pod.init_containers or []), *pod.containers]


def _without_nulls(value: Any) -> Any:
    """As the API server takes it: what is null is not there."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
