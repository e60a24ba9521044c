from typing import Any

import pytest

from tests.unit.charts.rendering import OWN, refusal, rendered


@pytest.mark.parametrize("release", OWN)
def test_a_value_that_no_one_knows_is_refused_by_its_name(release: str) -> None:
    assert "replicaz" in refusal(release, {"replicaz": 2})


@pytest.mark.parametrize("release", OWN)
def test_no_pod_can_be_told_to_run_as_root(release: str) -> None:
    assert "runAs" in refusal(release, {"runAs": 0})


@pytest.mark.parametrize(
    ("release", "values", "named"),
    [
        ("streaming", {"serving": {"replicas": -1}}, "replicas"),
        ("streaming", {"serving": {"replicas": "two"}}, "replicas"),
        ("streaming", {"serving": {"terminationGracePeriodSeconds": 30}}, "terminationGracePeriodSeconds"),
        ("streaming", {"serving": {"driverMemory": "1 GB"}}, "driverMemory"),
        ("streaming", {"kafka": {"bootstrapServers": "kafka"}}, "bootstrapServers"),
        ("streaming", {"kafka": {"securityProtocol": "TLS"}}, "securityProtocol"),
        ("platform", {"kafka": {"saslMechanism": "OAUTHBEARER"}}, "saslMechanism"),
        ("streaming", {"mlflow": {"trackingUri": "mlflow:5000"}}, "trackingUri"),
        ("streaming", {"environment": {"PATH": "/bin"}}, "PATH"),
        ("streaming", {"environment": {"USEDCARS_KAFKA_PASSWORD": "x"}}, "USEDCARS_KAFKA_PASSWORD"),
        ("streaming", {"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ("hdfs", {"datanode": {"replicas": -1}}, "replicas"),
        ("hdfs", {"namenode": {"persistence": {"size": "many"}}}, "size"),
        ("hdfs", {"hdfsSite": {"dfs.replication": 2}}, "dfs.replication"),
        ("kafka", {"listener": {"protocol": "TLS"}}, "protocol"),
        ("kafka", {"topics": [{"name": "usedcars.requests", "partitions": 0}]}, "partitions"),
        ("kafka", {"topics": [{"name": "used cars", "partitions": 1}]}, "name"),
        ("postgres", {"databases": [{"name": "dagster", "owner": "dagster"}]}, "passwordSecret"),
        ("platform", {"checks": {"newUploads": {"schedule": "often"}}}, "schedule"),
        ("platform", {"spark": {"master": "kubernetes"}}, "master"),
        ("platform", {"spark": {"executorInstances": 0}}, "executorInstances"),
        ("platform", {"volumes": {"computeLogs": {"accessModes": ["ReadOnly"]}}}, "accessModes"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(release: str, values: dict[str, Any], named: str) -> None:
    assert named in refusal(release, values)


@pytest.mark.parametrize(
    ("release", "values", "says"),
    [
        ("hdfs", {"replication": 3}, "replication is 3, but there are 1 DataNodes"),
        (
            "hdfs",
            {"datanode": {"replicas": 2, "persistence": {"existingClaim": "blocks"}}},
            "existingClaim is for one DataNode",
        ),
        ("kafka", {"listener": {"protocol": "SASL_SSL"}}, "listener.brokerSecret and listener.clientSecret"),
        ("streaming", {"dashboard": {"enabled": True}}, "--set-file dashboard.json="),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_a_reason(
    release: str, values: dict[str, Any], says: str
) -> None:
    assert says in refusal(release, values)


def test_values_for_ten_executors_and_three_data_nodes_are_taken() -> None:
    rendered("platform", values={"spark": {"executorInstances": 10, "dynamicAllocation": True}})
    rendered("hdfs", values={"replication": 3, "datanode": {"replicas": 3}})
