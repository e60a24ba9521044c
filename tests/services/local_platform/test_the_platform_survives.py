"""One platform of its own, because these tests kill it."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
import requests
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from local_platform.errors import PlatformError
from local_platform.jars import fetch_jars
from local_platform.java import find_java
from local_platform.platform import bring_up, remove_data, statuses, take_down
from local_platform.processes import processes_of
from local_platform.settings import PlatformSettings
from local_platform.supervisor import Supervisor

pytestmark = pytest.mark.services

SERVICES = ("datanode", "kafka")


@pytest.fixture(scope="module")
def settings(jars: Path, free_offset: Callable[[], int]) -> Iterator[PlatformSettings]:
    with TemporaryDirectory(prefix="uc-", ignore_cleanup_errors=True) as folder:
        made = PlatformSettings(
            home=Path(folder), jars=jars, port_offset=free_offset(), stop_timeout_seconds=10
        )
        fetch_jars(jars, find_java())
        try:
            yield made
        finally:
            take_down(made, print)


@pytest.fixture
def lines() -> list[str]:
    return []


def pids(settings: PlatformSettings) -> dict[str, int]:
    return {status.name: status.pid for status in statuses(settings) if status.pid}


def wait_until(met: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < until, f"not so within {seconds} s"
        time.sleep(0.3)


def webhdfs(settings: PlatformSettings, method: str, path: str, **parameters: str) -> requests.Response:
    url = f"{settings.url('namenode_http')}/webhdfs/v1{path}"
    data = b"a few bytes" if parameters["op"] == "CREATE" else None
    return requests.request(
        method, url, params={"user.name": "usedcars", **parameters}, data=data, timeout=30
    )


def test_a_port_in_use_is_named_with_its_holder_and_the_setting(
    settings: PlatformSettings, lines: list[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.port("kafka")))
        taken.listen()
        with pytest.raises(PlatformError, match=rf"held by process {os.getpid()} .*USEDCARS_KAFKA_PORT"):
            bring_up(settings, SERVICES, lines.append)
    assert pids(settings) == {}


def test_two_starts_at_once_do_no_harm(settings: PlatformSettings, lines: list[str]) -> None:
    with ThreadPoolExecutor(2) as together:
        for start in [together.submit(bring_up, settings, SERVICES, lines.append) for _ in range(2)]:
            start.result()
    assert any("waiting for it" in line for line in lines)
    assert set(pids(settings)) == {"namenode", "datanode", "kafka"}


def test_a_second_start_does_no_harm(settings: PlatformSettings, lines: list[str]) -> None:
    bring_up(settings, SERVICES, lines.append)
    first = pids(settings)
    bring_up(settings, SERVICES, lines.append)
    assert pids(settings) == first
    assert set(first) == {"namenode", "datanode", "kafka"}


def test_a_changed_setting_restarts_what_it_concerns_and_nothing_else(
    settings: PlatformSettings, lines: list[str]
) -> None:
    bring_up(settings, SERVICES, print)
    first = pids(settings)
    bring_up(settings.model_copy(update={"kafka_heap_mb": 400}), ["namenode"], lines.append)
    second = pids(settings)
    assert "settings changed: kafka start again" in lines
    assert second.keys() == first.keys()
    assert {name for name in first if first[name] != second[name]} == {"kafka"}
    bring_up(settings, SERVICES, print)


def test_what_is_stored_survives_a_kill_of_every_service(settings: PlatformSettings) -> None:
    bring_up(settings, SERVICES, print)
    address = settings.address("kafka")
    assert webhdfs(settings, "PUT", "/usedcars/kept", op="CREATE", overwrite="true").status_code == 201
    producer = KafkaProducer(bootstrap_servers=address)
    producer.send(settings.requests_topic, b"kept", partition=1).get(timeout=30)
    producer.close()
    before = pids(settings)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: set(pids(settings)) == set(before) and not set(pids(settings).values()) & set(before.values())
    )
    wait_until(lambda: all(status.missing is None for status in statuses(settings) if status.pid))
    assert webhdfs(settings, "GET", "/usedcars/kept", op="OPEN").content == b"a few bytes"
    consumer = KafkaConsumer(
        bootstrap_servers=address, consumer_timeout_ms=10_000, auto_offset_reset="earliest"
    )
    consumer.assign([TopicPartition(settings.requests_topic, 1)])
    assert next(consumer).value == b"kept"
    consumer.close()


def test_a_killed_supervisor_is_healed_by_the_next_start(
    settings: PlatformSettings, lines: list[str]
) -> None:
    bring_up(settings, SERVICES, print)
    before = pids(settings)
    supervisord = int((settings.run_folder / "supervisord.pid").read_text())
    os.kill(supervisord, signal.SIGKILL)
    wait_until(lambda: not Supervisor(settings).is_up())
    bring_up(settings, SERVICES, lines.append)
    assert any("an earlier start left behind" in line for line in lines)
    assert not any(psutil.pid_exists(pid) and pid in pids(settings).values() for pid in before.values())
    assert all(status.missing is None for status in statuses(settings) if status.pid)


def test_a_frozen_supervisor_is_healed_by_the_next_start(
    settings: PlatformSettings, lines: list[str]
) -> None:
    bring_up(settings, SERVICES, print)
    os.kill(int((settings.run_folder / "supervisord.pid").read_text()), signal.SIGSTOP)
    bring_up(settings, SERVICES, lines.append)
    assert any("an earlier start left behind" in line for line in lines)
    assert all(status.missing is None for status in statuses(settings) if status.pid)


def test_data_are_not_deleted_under_a_running_platform(settings: PlatformSettings) -> None:
    bring_up(settings, SERVICES, print)
    with pytest.raises(PlatformError, match="make down"):
        remove_data(settings)


def test_taking_it_down_leaves_nothing_running_and_twice_does_no_harm(settings: PlatformSettings) -> None:
    bring_up(settings, SERVICES, print)
    take_down(settings, print)
    assert list(processes_of(settings.home_folder)) == []
    assert statuses(settings) == []
    take_down(settings, print)
    remove_data(settings)
    assert list(settings.home_folder.iterdir()) == []
