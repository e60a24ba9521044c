import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from kubernetes import client

from local_platform import hdfs
from local_platform.settings import PlatformSettings
from tests.unit.charts.rendering import rendered

# What differs: where the servers listen and how they are reached, and where their data are.
ADDRESSES = {
    "fs.defaultFS",
    "hadoop.tmp.dir",
    "dfs.namenode.name.dir",
    "dfs.datanode.data.dir",
    "dfs.namenode.rpc-address",
    "dfs.namenode.rpc-bind-host",
    "dfs.namenode.http-address",
    "dfs.namenode.http-bind-host",
    "dfs.datanode.address",
    "dfs.datanode.http.address",
    "dfs.datanode.ipc.address",
    "dfs.datanode.hostname",
    "dfs.datanode.use.datanode.hostname",
}


def _properties(file: str, values: dict[str, Any] | None = None) -> dict[str, str]:
    data = rendered("hdfs", values=values).one(client.V1ConfigMap, "hdfs-config").data
    root = ElementTree.fromstring(data[file])  # noqa: S314
    return {str(each.findtext("name")): str(each.findtext("value")) for each in root.findall("property")}


@pytest.mark.parametrize("file", ["core-site.xml", "hdfs-site.xml"])
def test_hdfs_is_configured_as_on_one_machine(file: str) -> None:
    expected = hdfs._properties(PlatformSettings.model_construct())[file]
    assert {key: value for key, value in _properties(file).items() if key not in ADDRESSES} == {
        key: value for key, value in expected.items() if key not in ADDRESSES
    }
    assert set(expected) <= set(_properties(file))


def test_clients_reach_every_data_node_by_its_own_name() -> None:
    properties = _properties("hdfs-site.xml")
    assert properties["dfs.datanode.hostname"] == "${env.POD_NAME}.hdfs-datanode.usedcars.svc"
    data_nodes = rendered("hdfs").one(client.V1StatefulSet, "hdfs-datanode")
    service = rendered("hdfs").one(client.V1Service, data_nodes.spec.service_name)
    assert data_nodes.spec.service_name == "hdfs-datanode"
    assert service.spec.cluster_ip == "None"
    assert service.spec.publish_not_ready_addresses is True
    variables = {each.name: each for each in data_nodes.spec.template.spec.containers[0].env}
    assert variables["POD_NAME"].value_from.field_ref.field_path == "metadata.name"
    assert variables["HADOOP_USER_NAME"].value == "usedcars"


def test_the_name_node_has_an_address_that_stays() -> None:
    service = rendered("hdfs").one(client.V1Service, "hdfs-namenode")
    assert service.spec.cluster_ip is None
    assert {port.name: port.port for port in service.spec.ports} == {"rpc": 9820, "http": 9870}


def test_the_name_node_is_formatted_on_the_first_start_only() -> None:
    name_node = rendered("hdfs").one(client.V1StatefulSet, "hdfs-namenode")
    (formatting,) = name_node.spec.template.spec.init_containers
    script = formatting.args[-1]
    assert script.index("if [ -f /data/name/current/VERSION ]; then exit 0; fi") < script.index("-format")


def test_the_servers_get_the_web_folders_that_the_jars_lack() -> None:
    for name in ("hdfs-namenode", "hdfs-datanode"):
        pod = rendered("hdfs").one(client.V1StatefulSet, name).spec.template.spec
        script = pod.containers[0].args[-1]
        for folder in hdfs.WEB_FOLDERS:
            assert f"/tmp/web/webapps/{folder}" in script  # noqa: S108
        assert "'/etc/hadoop:/tmp/web:/opt/hdfs/jars/*'" in script


def test_the_lakes_folders_are_made_after_the_install() -> None:
    job = rendered("hdfs").one(client.V1Job, "hdfs-folders")
    assert job.metadata.annotations["helm.sh/hook"] == "post-install,post-upgrade"
    assert job.spec.template.spec.containers[0].args[-1] == hdfs.LAKE_FOLDERS[-1]


def test_a_claim_of_ones_own_and_no_claim_at_all_are_possible() -> None:
    own = rendered("hdfs", values={"namenode": {"persistence": {"existingClaim": "names"}}})
    pod = own.one(client.V1StatefulSet, "hdfs-namenode").spec
    assert not pod.volume_claim_templates
    claims = [each.persistent_volume_claim for each in pod.template.spec.volumes]
    assert [each.claim_name for each in claims if each] == ["names"]
    without = rendered("hdfs", values={"namenode": {"persistence": {"enabled": False}}})
    volumes = without.one(client.V1StatefulSet, "hdfs-namenode").spec.template.spec.volumes
    assert next(each for each in volumes if each.name == "data").empty_dir is not None


@pytest.mark.parametrize(("given", "expected"), [("", None), ("fast", "fast"), ("-", "")])
def test_the_storage_class_is_the_default_a_named_one_or_none(given: str, expected: str | None) -> None:
    release = rendered("hdfs", values={"datanode": {"persistence": {"storageClass": given}}})
    (claim,) = release.one(client.V1StatefulSet, "hdfs-datanode").spec.volume_claim_templates
    assert claim.spec.storage_class_name == expected
