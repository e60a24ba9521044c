from typing import Any

import pytest
import yaml
from kubernetes import client

from tests.unit.charts.rendering import SIZES, rendered
from tests.unit.charts.run_pods import run_job
from usedcars_assets.settings import Settings

# Read by others than the settings: the home of all files.
BESIDE_THE_SETTINGS = {"USEDCARS_HOME"}
CHECKS = {"new-uploads": "uploads", "new-model-events": "models"}


def _rules_of(account: str) -> list[Any]:
    """The rules of all roles that are bound to an account."""
    release = rendered("platform")
    bound = [
        binding.role_ref.name
        for binding in release.every(client.V1RoleBinding)
        if account in {subject.name for subject in binding.subjects}
    ]
    return [rule for name in bound for rule in release.one(client.V1Role, name).rules]


def _rights(rules: list[Any]) -> set[tuple[str, str, str]]:
    return {
        (resource, verb, name)
        for rule in rules
        for resource in rule.resources
        for verb in rule.verbs
        for name in (rule.resource_names or ["*"])
    }


def test_a_run_may_change_no_deployment_but_serving() -> None:
    of_deployments = {right for right in _rights(_rules_of("usedcars-run")) if right[0] == "deployments"}
    assert of_deployments == {("deployments", "get", "serving"), ("deployments", "patch", "serving")}


def test_a_run_may_make_and_remove_only_what_executors_need() -> None:
    made = {resource for resource, verb, _ in _rights(_rules_of("usedcars-run")) if verb == "create"}
    assert made == {"pods", "configmaps", "services", "persistentvolumeclaims"}
    resources = {resource for resource, _, _ in _rights(_rules_of("usedcars-run"))}
    assert resources == made | {"deployments", "pods/log"}
    assert "*" not in {verb for _, verb, _ in _rights(_rules_of("usedcars-run"))}


def test_nobody_else_has_any_right() -> None:
    accounts = {each.metadata.name for each in rendered("platform").every(client.V1ServiceAccount)}
    assert accounts == {"usedcars-run", "usedcars-executor", "usedcars-checks"}
    assert not _rules_of("usedcars-executor")
    assert not _rules_of("usedcars-checks")
    assert not [each for each in rendered("platform").documents if each["kind"].startswith("ClusterRole")]


@pytest.mark.parametrize(("name", "subject"), CHECKS.items())
def test_a_periodic_check_never_runs_twice_at_a_time_nor_for_ever(name: str, subject: str) -> None:
    spec = rendered("platform").one(client.V1CronJob, name).spec
    assert spec.concurrency_policy == "Forbid"
    assert spec.starting_deadline_seconds > 0
    assert spec.job_template.spec.active_deadline_seconds > 0
    assert spec.job_template.spec.backoff_limit == 0
    assert spec.successful_jobs_history_limit == 1
    assert spec.failed_jobs_history_limit == 3
    (container,) = spec.job_template.spec.template.spec.containers
    assert container.args == ["python", "-m", "usedcars_assets.checks", subject]
    variables, login = container.env_from
    assert (variables.config_map_ref.name, login.secret_ref.name) == ("usedcars", "usedcars-kafka")


@pytest.mark.parametrize("name", CHECKS)
def test_a_periodic_check_looks_at_the_runs_of_dagster(name: str) -> None:
    pod = rendered("platform").one(client.V1CronJob, name).spec.job_template.spec.template.spec
    (container,) = pod.containers
    variables = {each.name: each for each in container.env}
    (mount,) = (each for each in container.volume_mounts if each.sub_path == "dagster.yaml")
    assert mount.mount_path == variables["DAGSTER_HOME"].value + "/dagster.yaml"
    configuration = next(each.config_map.name for each in pod.volumes if each.name == mount.name)
    assert rendered("dagster").one(client.V1ConfigMap, configuration).data["dagster.yaml"]
    daemon = rendered("dagster").one(client.V1Deployment, "dagster-daemon").spec.template.spec.containers[0]
    (password,) = (each for each in daemon.env if each.name == "DAGSTER_PG_PASSWORD")
    assert variables["DAGSTER_PG_PASSWORD"].value_from == password.value_from


def test_a_periodic_check_can_be_left_out() -> None:
    release = rendered("platform", values={"checks": {"newUploads": {"enabled": False}}})
    assert [each.metadata.name for each in release.every(client.V1CronJob)] == ["new-model-events"]


@pytest.mark.parametrize("size", SIZES)
def test_the_code_location_reads_every_variable(size: str) -> None:
    data = rendered("platform", size).one(client.V1ConfigMap, "usedcars").data
    known = {f"USEDCARS_{name.upper()}" for name in Settings.model_fields}
    assert set(data) <= known | BESIDE_THE_SETTINGS


def test_topics_and_model_are_those_of_the_code_location() -> None:
    data = rendered("platform").one(client.V1ConfigMap, "usedcars").data
    named = [name for name in Settings.model_fields if name.endswith("_topic")]
    for name in [*named, "registered_model", "serving_alias", "hdfs_user"]:
        assert data[f"USEDCARS_{name.upper()}"] == Settings.model_fields[name].default, name


def test_services_outside_the_cluster_take_only_their_addresses() -> None:
    values = {
        "lake": {"uri": "hdfs://names.example:8020/usedcars", "webhdfsUrl": "http://names.example:9870"},
        "kafka": {"bootstrapServers": "one.example:9092,two.example:9092"},
        "mlflow": {"trackingUri": "https://mlflow.example"},
    }
    data = rendered("platform", values=values).one(client.V1ConfigMap, "usedcars").data
    assert data["USEDCARS_LAKE_URI"] == "hdfs://names.example:8020/usedcars"
    assert data["USEDCARS_KAFKA_BOOTSTRAP_SERVERS"] == "one.example:9092,two.example:9092"
    assert data["USEDCARS_MLFLOW_TRACKING_URI"] == "https://mlflow.example"


def _spark(values: dict[str, Any] | None = None) -> dict[str, str]:
    data = rendered("platform", values=values).one(client.V1ConfigMap, "usedcars-spark").data
    return dict(line.split(" ", 1) for line in data["spark-defaults.conf"].splitlines() if line)


def test_executors_are_owned_by_their_driver_and_have_no_rights() -> None:
    spark = _spark()
    variables = {each.name for each in run_job().spec.template.spec.containers[0].env}
    assert spark["spark.kubernetes.driver.pod.name"] == "${env:USEDCARS_POD_NAME}"
    assert spark["spark.driver.host"] == "${env:USEDCARS_POD_IP}"
    assert {"USEDCARS_POD_NAME", "USEDCARS_POD_IP", "SPARK_CONF_DIR"} <= variables
    assert spark["spark.kubernetes.authenticate.executor.serviceAccountName"] == "usedcars-executor"
    data = rendered("platform").one(client.V1ConfigMap, "usedcars-spark").data
    assert yaml.safe_load(data["executor.yaml"])["spec"]["automountServiceAccountToken"] is False


def test_a_local_master_starts_no_executors() -> None:
    values = {"spark": {"master": "local[*]"}}
    assert _spark(values) == {}
    data = rendered("platform", values=values).one(client.V1ConfigMap, "usedcars").data
    assert data["USEDCARS_SPARK_MASTER"] == "local[*]"
    assert not [name for name in data if "EXECUTOR" in name]


def test_executors_may_come_and_go_with_the_work() -> None:
    spark = _spark({"spark": {"executorInstances": 10, "dynamicAllocation": True}})
    assert spark["spark.dynamicAllocation.enabled"] == "true"
    assert spark["spark.dynamicAllocation.maxExecutors"] == "10"


def test_the_drivers_service_selects_the_pods_of_runs() -> None:
    service = rendered("platform").one(client.V1Service, "usedcars-run")
    labels = run_job().spec.template.metadata.labels
    assert service.spec.cluster_ip == "None"
    assert service.spec.selector.items() <= labels.items()
