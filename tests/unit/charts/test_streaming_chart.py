from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from streaming_app.settings import LiveMetricsSettings, ServingSettings
from tests.unit.charts.rendering import REPOSITORY, SIZES, rendered

SECONDS_OF_A_HAND_OVER = 60


def _serving(values: dict[str, Any] | None = None) -> Any:
    return rendered("streaming", values=values).one(client.V1Deployment, "serving")


def test_a_new_serving_process_is_ready_before_a_former_one_ends() -> None:
    serving = _serving()
    assert serving.spec.replicas == 2
    assert serving.spec.strategy.type == "RollingUpdate"
    assert serving.spec.strategy.rolling_update.max_surge == 1
    assert serving.spec.strategy.rolling_update.max_unavailable == 0


def test_serving_has_longer_to_stop_than_a_hand_over_takes() -> None:
    assert _serving().spec.template.spec.termination_grace_period_seconds > SECONDS_OF_A_HAND_OVER


def test_serving_without_a_model_is_alive_but_not_ready() -> None:
    (container,) = _serving().spec.template.spec.containers
    assert container.args == ["python", "-m", "streaming_app.serving"]
    assert container.startup_probe.http_get.path == "/health/live"
    assert container.liveness_probe.http_get.path == "/health/live"
    assert container.readiness_probe.http_get.path == "/health/ready"


def test_one_serving_process_stays_when_a_node_is_drained() -> None:
    budget = rendered("streaming").one(client.V1PodDisruptionBudget, "serving")
    assert budget.spec.min_available == 1
    assert budget.spec.selector.match_labels.items() <= _serving().spec.template.metadata.labels.items()
    (spread,) = _serving().spec.template.spec.topology_spread_constraints
    assert (spread.topology_key, spread.when_unsatisfiable) == ("kubernetes.io/hostname", "ScheduleAnyway")


def test_live_metrics_run_once_and_keep_their_state() -> None:
    live = rendered("streaming").one(client.V1Deployment, "live-metrics")
    assert (live.spec.replicas, live.spec.strategy.type) == (1, "Recreate")
    volumes = {volume.name: volume for volume in live.spec.template.spec.volumes}
    claim = volumes["state"].persistent_volume_claim.claim_name
    kept = rendered("streaming").one(client.V1PersistentVolumeClaim, claim).metadata.annotations
    assert kept == {"helm.sh/resource-policy": "keep"}
    mounts = {mount.name: mount.mount_path for mount in live.spec.template.spec.containers[0].volume_mounts}
    state = rendered("streaming").one(client.V1ConfigMap, "streaming-config").data
    assert state["USEDCARS_LIVE_METRICS_STATE"].startswith(mounts["state"] + "/")


def test_both_pages_have_their_addresses() -> None:
    release = rendered("streaming")
    for name, port in (("serving", 8081), ("live-metrics", 8082)):
        service = release.one(client.V1Service, name)
        pods = release.one(client.V1Deployment, name).spec.template
        assert [each.port for each in service.spec.ports] == [port]
        assert [each.container_port for each in pods.spec.containers[0].ports] == [port]
        assert service.spec.selector.items() <= pods.metadata.labels.items()


@pytest.mark.parametrize("size", SIZES)
def test_the_application_reads_every_variable(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rendered("streaming", size).one(client.V1ConfigMap, "streaming-config").data
    fields = {*ServingSettings.model_fields, *LiveMetricsSettings.model_fields}
    assert set(data) <= {f"USEDCARS_{name.upper()}" for name in fields}
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    settings = ServingSettings()
    assert settings.health_host == "0.0.0.0"  # noqa: S104
    assert settings.home == Path("/data")
    assert settings.kafka_bootstrap_servers == "kafka:9092"
    assert settings.mlflow_tracking_uri == "http://mlflow:5000"


def test_topics_are_those_of_the_application() -> None:
    data = rendered("streaming").one(client.V1ConfigMap, "streaming-config").data
    fields = ServingSettings.model_fields
    topics = {name: field.default for name, field in fields.items() if name.endswith("_topic")}
    assert {name: data[f"USEDCARS_{name.upper()}"] for name in topics} == topics


def test_a_changed_setting_restarts_the_pods() -> None:
    changed = _serving({"environment": {"USEDCARS_SERVING_BATCH_DURATION": "1 minute"}})
    assert changed.spec.template.metadata.annotations != _serving().spec.template.metadata.annotations


def test_live_metrics_can_be_left_out() -> None:
    release = rendered("streaming", values={"liveMetrics": {"enabled": False}})
    assert [each.metadata.name for each in release.every(client.V1Deployment)] == ["serving"]


def test_the_dashboard_and_the_monitor_are_options() -> None:
    assert not [each for each in rendered("streaming").documents if each["kind"] == "ServiceMonitor"]
    dashboard = (REPOSITORY / "streaming_app" / "dashboards" / "usedcars.json").read_text()
    release = rendered(
        "streaming",
        values={"serviceMonitor": {"enabled": True}, "dashboard": {"enabled": True, "json": dashboard}},
    )
    (monitor,) = (each for each in release.documents if each["kind"] == "ServiceMonitor")
    assert monitor["spec"]["endpoints"][0]["path"] == "/metrics"
    shown = release.one(client.V1ConfigMap, "streaming-dashboard")
    assert shown.data["usedcars.json"].strip() == dashboard.strip()
    assert shown.metadata.labels["grafana_dashboard"] == "1"
