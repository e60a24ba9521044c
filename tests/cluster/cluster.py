"""A real cluster, as kubectl speaks to it, and the platform in one namespace of it."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.dagster_api import FINISHED, DagsterGraphQL, Run

REPOSITORY = Path(__file__).resolve().parents[2]
VALUES = REPOSITORY / "helm_values"
CLIENT = Path(__file__).with_name("client.yaml")
# What hand-made volumes are for, where the cluster makes none by itself, in GiB.
VOLUMES = (1, 1, 1, 2, 5, 5, 5, 5)
_SIMULATION = ("python", "-m", "simulation.cli")
# As in the other tests: of a JVM that lives for minutes the second compiler takes half.
_ONE_COMPILER = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"}
TEST_VALUES: dict[str, dict[str, Any]] = {
    "platform": {
        "environment": _ONE_COMPILER,
        "spark": {"config": {f"spark.executorEnv.{name}": value for name, value in _ONE_COMPILER.items()}},
    },
    "streaming": {"environment": _ONE_COMPILER},
}


@dataclass
class Cluster:
    """The platform, seen from outside of the cluster."""

    namespace: str
    dagster: DagsterGraphQL
    known_runs: set[str] = field(default_factory=set)

    def kubectl(self, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        done = subprocess.run(
            ["kubectl", "--namespace", self.namespace, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"kubectl {shlex.join(arguments)}: {done.stderr}"
        return done.stdout

    def objects(self, kind: str, labels: str = "") -> list[dict[str, Any]]:
        found = self.kubectl("get", kind, "-o", "json", *(["-l", labels] if labels else []))
        items: list[dict[str, Any]] = json.loads(found)["items"]
        return items

    def names(self, kind: str, labels: str = "") -> set[str]:
        return {each["metadata"]["name"] for each in self.objects(kind, labels)}

    def client(self, *command: str) -> str:
        return self.kubectl("exec", "client", "--", *command)

    def python(self, script: str, *arguments: str) -> Any:
        """What a script says, as JSON, that runs in the client's pod."""
        said = self.kubectl("exec", "-i", "client", "--", "python", "-", *arguments, stdin=script)
        return json.loads(said.splitlines()[-1])

    def upload(self, part: int, batch: str) -> None:
        file = f"/data/parts/batch-{part:04}.csv"
        self.client(*_SIMULATION, "upload", file, "--batch", batch)

    def ask(self, count: int, rate: float, name: str) -> "subprocess.Popen[bytes]":
        """Begin to ask for prices from the client's pod; the answers are read with `answers`."""
        return subprocess.Popen(
            [
                *("kubectl", "--namespace", self.namespace, "exec", "client", "--", *_SIMULATION),
                *("ask", "/data/parts/test.csv", "--limit", str(count), "--rate", str(rate)),
                *("--timeout", "240", "--show", "0", "--json", f"/data/{name}"),
            ]
        )

    def answers(self, name: str) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = json.loads(self.client("cat", f"/data/{name}"))["answers"]
        return answers

    def check_now(self, name: str) -> str:
        """Run a CronJob's job at once; its name."""
        job = f"{name}-by-hand-{int(time.time() * 1000)}"
        self.kubectl("create", "job", job, f"--from=cronjob/{name}")
        return job

    def next_run(self, job: str, seconds: float = 180) -> Run:
        """The run of a job that starts next."""
        run = self.dagster.wait_for_new_run(job, self.known_runs, seconds)
        self.known_runs.add(run.id)
        return run

    def active_pod(self) -> str:
        """The pod that answers."""
        for pod in self.objects("pods", "app.kubernetes.io/component=serving"):
            name = str(pod["metadata"]["name"])
            script = (
                "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8081/model').read().decode())"
            )
            told = self.kubectl("exec", name, "--", "python", "-c", script, check=False)
            if told and json.loads(told).get("role") == "active":
                return name
        raise AssertionError("no pod is active")

    def await_serving(self, pods: int, seconds: float = 240) -> None:
        """Wait until one is active and the others are warm."""
        wait_until(lambda: self._ready() == pods, seconds, f"{pods} ready pods of serving")

    def _ready(self) -> int:
        """The ready pods of the newest kind."""
        (found,) = [d for d in self.objects("deployments") if d["metadata"]["name"] == "serving"]
        status = found["status"]
        if status.get("observedGeneration") != found["metadata"]["generation"]:
            return 0
        former = status.get("replicas", 0) - status.get("updatedReplicas", 0)
        return int(status.get("readyReplicas", 0)) if not former else 0

    def install(self, values: Mapping[str, dict[str, Any]] | None = None) -> None:
        """Install, or bring up to date, with values of some releases on top."""
        with TemporaryDirectory() as folder:
            for release, given in (TEST_VALUES | dict(values or {})).items():
                Path(folder, f"{release}.yaml").write_text(json.dumps(given))
            environment = {**os.environ, "NAMESPACE": self.namespace, "SMALL": "1", "VALUES": folder}
            subprocess.run([str(VALUES / "install")], env=environment, check=True)

    def uninstall(self) -> None:
        environment = {**os.environ, "NAMESPACE": self.namespace}
        subprocess.run([str(VALUES / "uninstall")], env=environment, check=True)

    def is_finished(self, run: Run) -> bool:
        return self.dagster.run(run.id).status in FINISHED


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(1)


@contextmanager
def installed(namespace: str, port: int, volumes: Path | None) -> Iterator[Cluster]:
    """The platform from nothing to all but serving ready, and a client; removed at the end."""
    made = _make_volumes(namespace, volumes) if volumes else []
    cluster = Cluster(namespace, DagsterGraphQL(f"http://127.0.0.1:{port}"))
    forward = None
    try:
        began = time.monotonic()
        cluster.install()
        print(f"\ninstalled in {time.monotonic() - began:.0f} s")
        cluster.kubectl("apply", "-f", str(CLIENT))
        cluster.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=120s")
        forward = subprocess.Popen(
            ["kubectl", "-n", namespace, "port-forward", "service/dagster-webserver", f"{port}:3000"],
            stdout=subprocess.DEVNULL,
        )
        yield cluster
    finally:
        if forward is not None:
            forward.terminate()
            forward.wait()
        cluster.kubectl("delete", "pod", "client", "--ignore-not-found", "--now", check=False)
        with suppress(subprocess.CalledProcessError):
            cluster.uninstall()
        cluster.kubectl("delete", "namespace", namespace, "--wait", check=False)
        for volume in made:
            cluster.kubectl("delete", "persistentvolume", volume, check=False)


def _make_volumes(namespace: str, folder: Path) -> list[str]:
    """Volumes in a folder of the one node, which is this machine."""
    names = []
    for number, size in enumerate(VOLUMES):
        path, name = folder / f"{namespace}-{number}", f"{namespace}-{number}"
        path.mkdir(parents=True)
        path.chmod(0o777)
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": f"{size}Gi"},
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "hostPath": {"path": str(path)},
            },
        }
        subprocess.run(["kubectl", "apply", "-f", "-"], input=json.dumps(volume).encode(), check=True)
        names.append(name)
    return names
