import pytest

from local_platform.errors import PlatformError
from local_platform.platform import all_services, with_needs
from local_platform.settings import PlatformSettings

services = all_services(PlatformSettings(), "java")


def test_every_service_stands_behind_those_it_needs() -> None:
    seen: set[str] = set()
    for service in services:
        assert set(service.needs) <= seen
        seen.add(service.name)


def test_a_named_service_brings_what_it_needs() -> None:
    assert [service.name for service in with_needs(services, ["serving"])] == ["kafka", "mlflow", "serving"]
    assert [service.name for service in with_needs(services, ["datanode"])] == ["namenode", "datanode"]


def test_without_a_name_all_are_meant() -> None:
    assert with_needs(services, []) == list(services)


def test_an_unknown_service_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PlatformError, match="no service hbase: the services are namenode, datanode"):
        with_needs(services, ["hbase"])


def test_every_port_of_a_service_is_its_own() -> None:
    ports = [port for service in services for port in service.ports]
    assert len(set(ports)) == len(ports)
