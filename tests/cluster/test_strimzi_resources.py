"""Kafka under the Strimzi operator, as a server with the operator's definitions takes it: make test-k8s."""

import subprocess
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.cluster import VALUES, wait_until
from tests.unit.charts.rendering import official_chart

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

RESOURCES = VALUES / "kafka.yaml"
KINDS = ("kafka", "kafkanodepool", "kafkatopic")


def kubectl(*arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    command = ["kubectl", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", autouse=True)
def definitions() -> Iterator[None]:
    """Those of the operator; where it is installed they are there, and stay."""
    if kubectl("get", "customresourcedefinition", "kafkas.kafka.strimzi.io").returncode == 0:
        yield
        return
    folder = official_chart("strimzi-kafka-operator") / "crds"
    files = [f"--filename={file}" for kind in KINDS for file in folder.glob(f"*-Crd-{kind}.yaml")]
    made = kubectl("create", *files)  # not apply, whose note of what it was would be too long
    try:
        assert made.returncode == 0, made.stderr
        # A wait for what has no status yet fails at once.
        established = ("wait", "--for=condition=Established", "--timeout=30s", *files)
        wait_until(lambda: kubectl(*established).returncode == 0, 60, "the definitions")
        yield
    finally:
        kubectl("delete", "--ignore-not-found", *files)


def dry_run(manifests: str) -> "subprocess.CompletedProcess[str]":
    return kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=manifests)


def test_a_server_takes_the_resources() -> None:
    manifests = [each for each in yaml.safe_load_all(RESOURCES.read_text()) if each]
    done = dry_run(RESOURCES.read_text())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(server dry run)") == len(manifests)


def test_a_server_refuses_a_field_that_the_operator_does_not_know() -> None:
    done = dry_run(RESOURCES.read_text().replace("replicas:", "replicaz:", 1))
    assert done.returncode != 0
    assert "replicaz" in done.stderr
