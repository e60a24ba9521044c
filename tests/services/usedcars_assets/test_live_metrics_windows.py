"""Windows of the live metrics into Dagster and a finished MLflow run: real Kafka and MLflow."""

import json
import uuid
from typing import Any

import pytest
from dagster import SensorResult, build_sensor_context
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.input_drift import input_drift_looks
from usedcars_assets.rollout.live_metrics import Cursor, live_metrics_windows

pytestmark = pytest.mark.services


def changed(resource: Any, **fields: str) -> Any:
    return type(resource)(**{name: getattr(resource, name) for name in type(resource).model_fields} | fields)


def test_windows_that_are_over_are_observed_and_logged_once_to_the_versions_finished_run(
    resources: dict[str, Any],
) -> None:
    name = f"live-{uuid.uuid4().hex[:8]}"
    topics: Topics = changed(resources["topics"], live_metrics=name)
    mlflow: MlflowTracking = changed(resources["mlflow"], registered_model=name)
    client = mlflow.client()
    run = client.create_run(mlflow.experiment_id()).info
    client.set_terminated(run.run_id)
    client.create_registered_model(name)
    version = str(client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id).version)
    admin = KafkaAdminClient(**topics.access())
    admin.create_topics([NewTopic(name, 1, 1)], wait_for_metadata=True)
    admin.close()
    producer = KafkaProducer(**topics.access())

    def publish(day: int, mae: float) -> None:
        for told in (version, "all", "99"):  # of version 99 MLflow knows nothing
            times = {
                "window_start": f"2026-01-{day:02}T10:00:00.000Z",
                "window_end": f"2026-01-{day:02}T10:10:00.000Z",
            }
            record = {**times, "model_version": told, "count": 3, "mae": mae, "r2": None}
            producer.send(name, json.dumps(record).encode())
        producer.flush()

    def look(cursor: str | None, **instead: Any) -> SensorResult:
        resources = {"topics": topics, "mlflow": mlflow, **instead}
        with build_sensor_context(cursor=cursor, resources=resources) as context:
            found: Any = live_metrics_windows(context)
        assert isinstance(found, SensorResult)
        return found

    publish(1, 900.0)
    publish(1, 1_000.0)
    away = look(None, mlflow=changed(mlflow, tracking_uri="http://127.0.0.1:9"))
    assert "MLflow does not answer while telling the live metrics" in str(away.skip_reason)
    first = look(away.cursor)
    (shown,) = first.asset_events
    assert shown.metadata["mae"].value == 1_000.0
    assert shown.metadata[f"mae of version {version}"].value == 1_000.0
    publish(2, 2_000.0)
    second = look(first.cursor)
    assert len(second.asset_events) == 1
    third = look(second.cursor)
    assert (third.asset_events, third.skip_reason is None) == ([], False)
    assert Cursor.model_validate_json(third.cursor or "").open == {}
    producer.close()

    logged = client.get_metric_history(run.run_id, "live_mae")
    assert [metric.value for metric in logged] == [1_000.0, 2_000.0]
    assert logged[1].step - logged[0].step == 24 * 3600
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_each_look_at_the_input_drift_of_enough_requests_is_observed_once(resources: dict[str, Any]) -> None:
    name = f"drift-{uuid.uuid4().hex[:8]}"
    topics: Topics = changed(resources["topics"], input_drift=name)
    admin = KafkaAdminClient(**topics.access())
    admin.create_topics([NewTopic(name, 1, 1)], wait_for_metadata=True)
    admin.close()
    producer = KafkaProducer(**topics.access())

    def publish(level: str, index: float) -> None:
        moved = {"name": "fuel_type", "index": index, "bin": "Electric", "trained_share": 0, "live_share": 1}
        record = {"model_version": "7", "window_end": "2026-01-01T10:00:00.000Z", "requests": 900}
        producer.send(name, json.dumps({**record, "level": level, "features": [moved]}).encode())
        producer.flush()

    def look(cursor: str | None) -> SensorResult:
        with build_sensor_context(cursor=cursor, resources={"topics": topics}) as context:
            found: Any = input_drift_looks(context)
        assert isinstance(found, SensorResult)
        return found

    publish("unknown", 9.0)
    publish("alarm", 0.4)
    producer.send(name, b"no look")
    first = look(None)
    (shown,) = first.asset_events
    assert shown.metadata["index of fuel_type"].value == 0.4
    assert shown.metadata["requests"].value == 900
    assert look(first.cursor).asset_events == []
    publish("steady", 0.01)
    (then,) = look(first.cursor).asset_events
    assert then.metadata["level"].value == "steady"
    producer.close()
