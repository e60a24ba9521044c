"""The platform in a real cluster, whichever KUBECONFIG names: make test-k8s.

The images of docker/ are on its nodes. Needs kubectl, helm, and the official charts by DAGSTER_CHART and
MLFLOW_CHART. Where the cluster makes no volumes by itself, USEDCARS_TEST_VOLUMES names a folder of its one
node.

The tests of this file are one story and run in order.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.answered import each_is_answered_once
from tests.cluster.cluster import Cluster, installed, wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(1800)]

TEST_ROWS = 1_900  # in any case; the split is by chance
EXECUTORS = "spark-role=executor"
SERVING = "app.kubernetes.io/component=serving"
REGISTER_COPY = Path(__file__).with_name("register_copy.py").read_text()
SERVERS = "app.kubernetes.io/instance in (postgres, hdfs, kafka)"
OTHER_VALUES: dict[str, dict[str, Any]] = {
    "postgres": {"config": {"max_connections": "90"}},
    "hdfs": {"hdfsSite": {"dfs.namenode.handler.count": "12"}},
    "kafka": {"config": {"log.retention.hours": "169"}},
}
# The versions in MLflow, with its PostgreSQL, and the batches that HDFS holds.
KEPT = """
import json, os, mlflow, requests
c = mlflow.MlflowClient(os.environ["USEDCARS_MLFLOW_TRACKING_URI"])
versions = sorted(v.version for v in c.search_model_versions())
url = os.environ["USEDCARS_WEBHDFS_URL"] + "/webhdfs/v1/usedcars/cleaned?op=LISTSTATUS&user.name=usedcars"
batches = sorted(e["pathSuffix"] for e in requests.get(url).json()["FileStatuses"]["FileStatus"])
print(json.dumps([versions, batches]))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    parent = os.environ.get("USEDCARS_TEST_VOLUMES")
    volumes = TemporaryDirectory(dir=parent, prefix="volumes-", ignore_cleanup_errors=True)
    namespace = f"usedcars-test-{port}"
    with volumes as folder, installed(namespace, port, Path(folder) if parent else None) as made:
        simulation = ("python", "-m", "simulation.cli")
        raw, parts = ("--output", "/data/raw.csv"), ("--output", "/data/parts")
        made.client(*simulation, "generate", "--rows", "8000", "--seed", "3", *raw)
        made.client(*simulation, "split", raw[1], *parts, "--batches", "3", "--test-fraction", "0.25")
        yield made


def tell(what: str, answers: list[dict[str, Any]]) -> None:
    longest = max(answer["answered_after_seconds"] for answer in answers)
    print(f"\n{what}: {len(answers)} requests, each answered once, longest wait {longest:.2f} s")


def under_requests(
    cluster: Cluster,
    what: str,
    act: Callable[[], object],
    is_over: Callable[[], bool] = lambda: True,
    rate: float = 100,
) -> list[dict[str, Any]]:
    """Do something while prices are asked, until it is over and once more; each request gets one answer."""
    answers: list[dict[str, Any]] = []
    asked, portion = 0, min(int(15 * rate), TEST_ROWS)
    over = False
    while not over:
        over = asked > 0 and is_over()
        asking = cluster.ask(portion, rate, "asked.json")
        if not asked:
            time.sleep(4)
            act()
        assert asking.wait(500) == 0
        answers += cluster.answers("asked.json")
        asked += portion
    assert each_is_answered_once(answers, asked)
    tell(what, answers)
    return answers


def test_an_upload_is_found_once_trained_with_executors_as_pods_and_answers_clients_in_the_cluster(
    cluster: Cluster,
) -> None:
    cluster.upload(1, "2026-01")
    cluster.check_now("new-uploads")  # at once with Dagster's own sensor
    run = cluster.next_run("training")
    wait_until(lambda: bool(cluster.names("pods", EXECUTORS)), 180, "an executor")
    wait_until(lambda: cluster.is_finished(run), 1200, "the training")
    run = cluster.dagster.run(run.id)
    assert run.status == "SUCCESS", cluster.dagster.failure_sentences(run.id)
    assert [each.job for each in cluster.dagster.runs()] == ["training"]
    wait_until(lambda: not cluster.names("pods", EXECUTORS), 60, "the executors to be gone")
    assert cluster.ask(100, 20, "first.json").wait(400) == 0
    answers = cluster.answers("first.json")
    assert each_is_answered_once(answers, 100)
    assert {answer["model_version"] for answer in answers} == {"1"}


def test_a_restart_of_the_deployment_is_not_noticed(cluster: Cluster) -> None:
    cluster.await_serving(2)
    former = cluster.names("pods", SERVING)
    restart = lambda: cluster.kubectl("rollout", "restart", "deployment/serving")  # noqa: E731
    is_over = lambda: not former & cluster.names("pods", SERVING)  # noqa: E731
    under_requests(cluster, "kubectl rollout restart", restart, is_over, rate=20)
    cluster.await_serving(2)


def test_the_active_pod_deleted_by_force_is_succeeded(cluster: Cluster) -> None:
    active = cluster.active_pod()
    kill = lambda: cluster.kubectl("delete", "pod", active, "--force", "--grace-period=0")  # noqa: E731
    under_requests(cluster, "kubectl delete pod --force of the active one", kill)
    cluster.await_serving(2)


@pytest.mark.parametrize("pod", ["kafka-0", "hdfs-namenode-0"])
def test_a_killed_broker_or_namenode_costs_no_request(cluster: Cluster, pod: str) -> None:
    kill = lambda: cluster.kubectl("delete", "pod", pod, "--force", "--grace-period=0")  # noqa: E731
    under_requests(cluster, f"kubectl delete pod --force of {pod}", kill)
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=120s")


def test_a_second_batch_rolls_out_under_200_requests_a_second(cluster: Cluster) -> None:
    cluster.await_serving(2)
    cluster.upload(2, "2026-02")
    run = cluster.next_run("training")
    answers = under_requests(
        cluster, "rollout of a second batch", lambda: None, lambda: cluster.is_finished(run), rate=200
    )
    assert cluster.dagster.run(run.id).status == "SUCCESS", cluster.dagster.failure_sentences(run.id)
    assert {answer["model_version"] for answer in answers} == {"1", "2"}


def test_a_driver_killed_in_mid_training_is_begun_anew_and_leaves_nothing_behind(cluster: Cluster) -> None:
    cluster.upload(3, "2026-03")
    run = cluster.next_run("training")
    wait_until(lambda: bool(cluster.names("pods", EXECUTORS)), 180, "an executor")
    former = cluster.names("pods", EXECUTORS)
    time.sleep(20)
    cluster.kubectl("delete", "pod", "-l", f"dagster/run-id={run.id}", "--force", "--grace-period=0")
    wait_until(lambda: not former & cluster.names("pods", EXECUTORS), 90, "the former executors to be gone")
    retried = cluster.next_run("training", 300)
    wait_until(lambda: cluster.is_finished(retried), 900, "the training, begun anew")
    status = cluster.dagster.run(retried.id).status
    assert status == "SUCCESS", cluster.dagster.failure_sentences(retried.id)
    script = (
        "from mlflow import MlflowClient; c = MlflowClient('http://mlflow:5000');"
        "e = [x.experiment_id for x in c.search_experiments()];"
        "print(sorted({r.info.status for r in c.search_runs(e, max_results=1000)}))"
    )
    assert "RUNNING" not in cluster.client("python", "-c", script)


def test_a_version_registered_by_hand_is_rolled_out_once(cluster: Cluster) -> None:
    cluster.await_serving(2)
    version = cluster.python(REGISTER_COPY, "whole")
    cluster.check_now("new-model-events")  # at once with Dagster's own sensor
    run = cluster.next_run("rollout")
    wait_until(lambda: cluster.is_finished(run), 600, "the rollout")
    assert cluster.dagster.run(run.id).status == "SUCCESS", cluster.dagster.failure_sentences(run.id)
    assert [each.job for each in cluster.dagster.runs()].count("rollout") == 1
    assert cluster.ask(60, 20, "by-hand.json").wait(400) == 0
    assert {answer["model_version"] for answer in cluster.answers("by-hand.json")} == {version}


def test_a_broken_version_is_refused_with_its_reason_and_the_one_in_service_answers_on(
    cluster: Cluster,
) -> None:
    served = cluster.answers("by-hand.json")[0]["model_version"]
    version = cluster.python(REGISTER_COPY, "broken")
    runs: list[Any] = []

    def roll_out() -> None:
        cluster.check_now("new-model-events")
        runs.append(cluster.next_run("rollout"))
        wait_until(lambda: cluster.is_finished(runs[0]), 600, "the rollout")

    answers = under_requests(cluster, "rollout of a broken version", roll_out)
    assert {answer["model_version"] for answer in answers} == {served}
    assert cluster.dagster.run(runs[0].id).status == "FAILURE"
    sentences = " ".join(cluster.dagster.failure_sentences(runs[0].id))
    assert f"can't load version {version}" in sentences


def test_an_upgrade_with_other_values_restarts_the_servers_and_keeps_their_data(cluster: Cluster) -> None:
    before = cluster.python(KEPT)
    runs = {run.id for run in cluster.dagster.runs()}
    pods = {pod["metadata"]["uid"] for pod in cluster.objects("pods", SERVERS)}
    under_requests(cluster, "helm upgrade of all releases", lambda: cluster.install(OTHER_VALUES))
    assert not pods & {pod["metadata"]["uid"] for pod in cluster.objects("pods", SERVERS)}
    assert cluster.python(KEPT) == before
    wait_until(lambda: {run.id for run in cluster.dagster.runs()} >= runs, 60, "Dagster's runs")


def test_uninstalling_leaves_nothing_but_volumes(cluster: Cluster) -> None:
    cluster.kubectl("delete", "pod", "client", "--now")
    cluster.uninstall()
    left = "deployments,statefulsets,daemonsets,jobs,cronjobs,pods,services,secrets,roles,rolebindings"
    wait_until(lambda: not cluster.names(left), 120, "the last object to go")
    assert cluster.names("persistentvolumeclaims")
