from typing import Any

import pytest
import yaml
from kubernetes import client

from tests.unit.charts.rendering import INSTALLATIONS, SIZES, Installation, containers, rendered
from tests.unit.charts.run_pods import run_job

# The API server's token is for who speaks to it: Dagster makes the pods of runs, which make their executors.
# The code location's token is mounted by the official chart; its account has no rights.
SPEAKS_TO_THE_API = {"Deployment dagster-webserver", "Deployment dagster-daemon", "a run"}
BOUND_TO_NOTHING = {"Deployment dagster-dagster-user-deployments-usedcars"}
SECRET_WORDS = ("PASSWORD", "SECRET", "TOKEN", "CREDENTIAL")

installed = [(release, size) for release in INSTALLATIONS for size in SIZES]
every_installed_pod = pytest.mark.parametrize(("release", "size"), installed)
every_pod = pytest.mark.parametrize(
    ("release", "size"), [*installed, *(("executor", size) for size in SIZES)]
)


def _pods(release: str, size: str) -> list[tuple[str, Any]]:
    if release == "executor":
        return [("an executor", _executor(size))]
    pods = list(rendered(release, size).pods())
    return [*pods, ("a run", run_job(size).spec.template.spec)] if release == "dagster" else pods


def _executor(size: str) -> Any:
    from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

    spark = rendered("platform", size).one(client.V1ConfigMap, "usedcars-spark")
    pod = yaml.safe_load(spark.data["executor.yaml"])
    return k8s_model_from_dict(client.V1Pod, k8s_snake_case_dict(client.V1Pod, pod)).spec


@every_pod
def test_every_pod_satisfies_the_pod_security_standard_restricted(release: str, size: str) -> None:
    for name, pod in _pods(release, size):
        security = pod.security_context
        assert security.run_as_non_root is True, name
        assert security.run_as_user != 0, name
        assert security.seccomp_profile.type == "RuntimeDefault", name
        assert not any([pod.host_network, pod.host_pid, pod.host_ipc]), name
        for container in containers(pod):
            where = f"{container.name} of {name}"
            assert container.security_context.allow_privilege_escalation is False, where
            assert container.security_context.capabilities.drop == ["ALL"], where
            assert not container.security_context.capabilities.add, where
            assert not container.security_context.privileged, where
            assert not any(port.host_port for port in container.ports or []), where
        for volume in pod.volumes or []:
            assert volume.host_path is None, f"{volume.name} of {name}"


@every_pod
def test_no_container_writes_to_its_image(release: str, size: str) -> None:
    for name, pod in _pods(release, size):
        for container in containers(pod):
            assert container.security_context.read_only_root_filesystem is True, f"{container.name} of {name}"
        for container in pod.containers:
            mounts = {mount.mount_path for mount in container.volume_mounts}
            assert "/tmp" in mounts, f"{container.name} of {name}"  # noqa: S108


@every_installed_pod  # what an executor needs Spark says itself
def test_every_container_says_what_it_needs_and_may_have_at_most(release: str, size: str) -> None:
    for name, pod in _pods(release, size):
        for container in containers(pod):
            resources = container.resources
            assert {"cpu", "memory"} <= set(resources.requests or {}), f"{container.name} of {name}"
            assert "memory" in (resources.limits or {}), f"{container.name} of {name}"


@every_pod
def test_secrets_are_given_by_reference_only(release: str, size: str) -> None:
    for name, pod in _pods(release, size):
        for container in containers(pod):
            for variable in container.env or []:
                if any(word in variable.name for word in SECRET_WORDS):
                    assert variable.value is None, f"{variable.name} of {name}"
                    assert variable.value_from.secret_key_ref, f"{variable.name} of {name}"
    if release in INSTALLATIONS:
        for config_map in rendered(release, size).every(client.V1ConfigMap):
            assert not [key for key in config_map.data or {} if any(word in key for word in SECRET_WORDS)]


def test_who_speaks_to_kafka_has_its_login_by_reference() -> None:
    pods = {
        name: pod for release in ("platform", "streaming", "dagster") for name, pod in _pods(release, "usual")
    }
    for name in (
        "a run",
        "CronJob new-uploads",
        "CronJob new-model-events",
        "Deployment dagster-dagster-user-deployments-usedcars",
        "Deployment serving",
        "Deployment live-metrics",
    ):
        sources = pods[name].containers[0].env_from
        assert "usedcars-kafka" in {each.secret_ref.name for each in sources if each.secret_ref}, name


@every_pod
def test_only_who_speaks_to_the_api_server_has_a_token(release: str, size: str) -> None:
    known = rendered(release, size).every(client.V1ServiceAccount) if release in INSTALLATIONS else []
    accounts = {account.metadata.name: account.automount_service_account_token for account in known}
    for name, pod in _pods(release, size):
        if name in SPEAKS_TO_THE_API | BOUND_TO_NOTHING:
            continue
        mounted = pod.automount_service_account_token
        if mounted is None:
            mounted = accounts[pod.service_account_name]
        assert mounted is False, name


@every_pod
def test_images_are_named_with_a_tag_and_pulled_only_when_missing(release: str, size: str) -> None:
    for name, pod in _pods(release, size):
        for container in containers(pod):
            if container.image is None:
                continue  # Spark names the executors'
            assert ":" in container.image, f"{container.name} of {name}"
            assert not container.image.endswith(":latest"), f"{container.name} of {name}"
            assert container.image_pull_policy in (None, "IfNotPresent"), f"{container.name} of {name}"


def _selects(selector: Any, labels: dict[str, str]) -> bool:
    matches = selector.match_labels or {}
    expressions = selector.match_expressions or []
    return matches.items() <= labels.items() and all(
        labels.get(expression.key) in expression.values for expression in expressions
    )


@pytest.mark.parametrize("release", list(INSTALLATIONS))
def test_a_network_policy_stands_before_every_server(release: str) -> None:
    policies = [
        policy
        for source in {release, "platform"}
        for policy in rendered(source).every(client.V1NetworkPolicy)
        if "Ingress" in policy.spec.policy_types
    ]
    for kind in (client.V1Deployment, client.V1StatefulSet):
        for each in rendered(release).every(kind):
            labels = each.spec.template.metadata.labels
            assert any(_selects(policy.spec.pod_selector, labels) for policy in policies), each.metadata.name


def test_each_release_has_values_for_a_small_cluster() -> None:
    installations: list[Installation] = list(INSTALLATIONS.values())
    assert all(installation.values("small")[-1].is_file() for installation in installations)
