import re
import shlex
from functools import cache
from itertools import pairwise
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes import client

from local_platform import kafka
from local_platform.settings import PlatformSettings
from tests.unit.charts.rendering import VALUES, official_chart, rendered

# What differs: where the broker listens, and where its data are.
ADDRESSES = {
    "controller.quorum.voters",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "inter.broker.listener.name",
    "log.dirs",
}


@pytest.fixture
def platform() -> PlatformSettings:
    return PlatformSettings.model_construct()


def _properties(values: dict[str, Any] | None = None) -> dict[str, str]:
    data = rendered("kafka", values=values).one(client.V1ConfigMap, "kafka-config").data
    lines = data["server.properties"].splitlines()
    return dict(line.split("=", 1) for line in lines if line)


def _created_topics() -> dict[str, tuple[int, dict[str, str]]]:
    """Name, partitions and configuration of the topics that the job creates."""
    job = rendered("kafka").one(client.V1Job, "kafka-topics")
    script = job.spec.template.spec.containers[0].args[-1]
    created = {}
    for line in re.findall(r"topics --create .*", script):
        words = shlex.split(line)
        options = list(pairwise(words))
        (name,) = (value for option, value in options if option == "--topic")
        (partitions,) = (value for option, value in options if option == "--partitions")
        configs = [value.split("=", 1) for option, value in options if option == "--config"]
        created[name] = (int(partitions), dict(configs))
    return created


def _expected_topics(platform: PlatformSettings) -> dict[str, tuple[int, dict[str, str]]]:
    return {
        topic: (partitions, kafka._retention(platform, topic))
        for topic, partitions in kafka.topics(platform).items()
    }


def test_the_topics_are_those_of_one_machine(platform: PlatformSettings) -> None:
    assert _created_topics() == _expected_topics(platform)


def test_the_broker_is_configured_as_on_one_machine(platform: PlatformSettings) -> None:
    expected = kafka._server_properties(platform)
    assert set(_properties()) == set(expected)
    assert {key: value for key, value in _properties().items() if key not in ADDRESSES} == {
        key: value for key, value in expected.items() if key not in ADDRESSES
    }


def test_clients_are_told_the_name_of_a_service_with_an_address_that_stays() -> None:
    assert "CLIENT://kafka.usedcars.svc:9092" in _properties()["advertised.listeners"]
    service = rendered("kafka").one(client.V1Service, "kafka")
    assert service.spec.cluster_ip is None
    broker = rendered("kafka").one(client.V1StatefulSet, "kafka")
    assert service.spec.selector.items() <= broker.spec.template.metadata.labels.items()


def test_no_other_pod_reaches_the_controller() -> None:
    listeners = dict(each.split("://") for each in _properties()["listeners"].split(","))
    assert {name for name, address in listeners.items() if "127.0.0.1" not in address} == {"CLIENT"}


def test_the_data_are_formatted_on_the_first_start_only() -> None:
    broker = rendered("kafka").one(client.V1StatefulSet, "kafka")
    (formatting,) = broker.spec.template.spec.init_containers
    assert "if [ -f /data/kafka/meta.properties ]; then exit 0; fi" in formatting.args[-1]
    assert [claim.metadata.name for claim in broker.spec.volume_claim_templates] == ["data"]


def test_encryption_and_users_are_a_matter_of_values() -> None:
    listener = {"protocol": "SASL_SSL", "brokerSecret": "kafka-broker", "clientSecret": "kafka-client"}
    release = rendered("kafka", values={"listener": listener})
    assert "CLIENT:SASL_SSL" in _properties({"listener": listener})["listener.security.protocol.map"]
    broker = release.one(client.V1StatefulSet, "kafka").spec.template.spec
    assert "/etc/kafka/broker/broker.properties" in broker.containers[0].args[-1]
    assert "kafka-broker" in {volume.secret.secret_name for volume in broker.volumes if volume.secret}
    job = release.one(client.V1Job, "kafka-topics").spec.template.spec
    assert "--command-config /etc/kafka/client/client.properties" in job.containers[0].args[-1]


def _strimzi() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((VALUES / "kafka.yaml").read_text()))


def test_the_topics_under_the_operator_are_the_same(platform: PlatformSettings) -> None:
    topics = {
        each["metadata"]["name"]: (
            each["spec"]["partitions"],
            {key: str(value) for key, value in each["spec"].get("config", {}).items()},
        )
        for each in _strimzi()
        if each["kind"] == "KafkaTopic"
    }
    assert topics == _expected_topics(platform)


def test_the_brokers_under_the_operator_behave_the_same(platform: PlatformSettings) -> None:
    (config,) = (each["spec"]["kafka"]["config"] for each in _strimzi() if each["kind"] == "Kafka")
    expected = kafka._server_properties(platform)
    scaled = {key for key in config if "replica" in key or key.endswith("isr")}
    assert {key: str(value) for key, value in config.items() if key not in scaled} == {
        key: expected[key] for key in config if key not in scaled
    }


@pytest.mark.parametrize(
    "manifest", _strimzi(), ids=lambda each: f"{each['kind']} {each['metadata']['name']}"
)
def test_the_operators_own_schema_takes_the_resources(manifest: dict[str, Any]) -> None:
    jsonschema.validate(manifest["spec"], _operators_schema(manifest["apiVersion"], manifest["kind"]))


@cache
def _operators_schema(api_version: str, kind: str) -> Any:
    """What the operator takes as the specification of a kind."""
    (file,) = (official_chart("strimzi-kafka-operator") / "crds").glob(f"*-Crd-{kind.lower()}.yaml")
    definition = yaml.load(file.read_text(), yaml.CSafeLoader)["spec"]
    group, version = api_version.split("/")
    assert (definition["group"], definition["names"]["kind"]) == (group, kind)
    (found,) = (each for each in definition["versions"] if each["name"] == version)
    return _closed(found["schema"]["openAPIV3Schema"])["properties"]["spec"]


def _closed(schema: Any) -> Any:
    """The schema, with fields that it does not name refused."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if named and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed
