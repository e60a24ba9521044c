from typing import Any

import pytest
import yaml
from kubernetes import client

from local_platform import dagster as local_dagster
from tests.unit.charts.rendering import SIZES, rendered
from tests.unit.charts.run_pods import instance, run_job


def _local() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(local_dagster._INSTANCE)
    return document


def test_runs_have_the_rights_and_the_settings_of_runs() -> None:
    job = run_job()
    pod = job.spec.template.spec
    assert pod.service_account_name == "usedcars-run"
    assert pod.automount_service_account_token is True
    (container,) = pod.containers
    assert "usedcars" in {each.config_map_ref.name for each in container.env_from if each.config_map_ref}
    mounts = {mount.mount_path: mount.name for mount in container.volume_mounts}
    assert {"/tmp", "/data", "/compute-logs", "/etc/usedcars/spark"} <= set(mounts)  # noqa: S108
    assert {volume.name for volume in pod.volumes} >= set(mounts.values())


def test_a_failed_run_is_a_failed_pod_that_stays_readable() -> None:
    assert instance()["run_launcher"]["config"]["fail_pod_on_run_failure"] is True
    assert run_job().spec.ttl_seconds_after_finished >= 86_400
    assert run_job().spec.backoff_limit == 0


def test_a_killed_driver_is_noticed_and_its_run_begun_anew() -> None:
    monitoring = instance()["run_monitoring"]
    assert monitoring["enabled"] is True
    assert monitoring["max_resume_run_attempts"] == 0
    assert monitoring["poll_interval_seconds"] == _local()["run_monitoring"]["poll_interval_seconds"]
    retries = {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}
    assert instance()["run_retries"] == retries


def test_one_training_at_a_time_as_on_one_machine() -> None:
    coordinator, local = instance()["run_coordinator"]["config"], _local()["concurrency"]["runs"]
    assert coordinator["max_concurrent_runs"] == local["max_concurrent_runs"]
    assert coordinator["tag_concurrency_limits"] == local["tag_concurrency_limits"]


def test_ticks_are_kept_as_long_as_on_one_machine() -> None:
    local, here = _local()["retention"], instance()["retention"]
    assert here["schedule"] == local["schedule"]
    given = here["sensor"]["purge_after_days"]
    assert local["sensor"]["purge_after_days"].items() <= given.items()


def test_nothing_is_told_to_anyone() -> None:
    assert instance()["telemetry"] == _local()["telemetry"]
    assert instance()["nux"] == _local()["nux"]


def test_the_code_location_has_its_name_and_no_rights() -> None:
    release = rendered("dagster")
    deployment = release.one(client.V1Deployment, "dagster-dagster-user-deployments-usedcars")
    (container,) = deployment.spec.template.spec.containers
    assert container.args[-2:] == ["-m", "usedcars_assets.definitions"]
    account = deployment.spec.template.spec.service_account_name
    bound = {each.name for role in release.every(client.V1RoleBinding) for each in role.subjects}
    assert account not in bound
    workspace = release.one(client.V1ConfigMap, "dagster-workspace-yaml").data["workspace.yaml"]
    (server,) = yaml.safe_load(workspace)["load_from"]
    assert server["grpc_server"] == {"host": "usedcars", "port": 3030, "location_name": "usedcars"}


def test_the_webserver_is_where_the_others_look_for_it() -> None:
    service = rendered("dagster").one(client.V1Service, "dagster-webserver")
    data = rendered("platform").one(client.V1ConfigMap, "usedcars").data
    assert data["USEDCARS_DAGSTER_URL"] == f"http://{service.metadata.name}:{service.spec.ports[0].port}"


@pytest.mark.parametrize("size", SIZES)
def test_dagster_brings_no_other_services(size: str) -> None:
    names = {each.metadata.name for each in rendered("dagster", size).every(client.V1Deployment)}
    assert names == {
        "dagster-webserver",
        "dagster-daemon",
        "dagster-dagster-user-deployments-usedcars",
    }
    assert not rendered("dagster", size).every(client.V1StatefulSet)
    assert not rendered("dagster", size).every(client.V1Secret)


def test_compute_logs_are_kept_where_the_webserver_sees_them() -> None:
    config = instance()["compute_logs"]
    assert config["class"] == "LocalComputeLogManager"
    webserver = rendered("dagster").one(client.V1Deployment, "dagster-webserver").spec.template.spec
    claim = rendered("platform").one(client.V1PersistentVolumeClaim, "dagster-compute-logs")
    for pod in (webserver, run_job().spec.template.spec):
        claims = {each.name: each.persistent_volume_claim for each in pod.volumes}
        mounts = {mount.mount_path: mount.name for mount in pod.containers[0].volume_mounts}
        assert claims[mounts[config["config"]["base_dir"]]].claim_name == claim.metadata.name
