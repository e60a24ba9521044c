"""A version into service, and what happens when it does not get there: real Supervisor, Kafka and MLflow."""

import multiprocessing
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from dagster import DagsterInstance, Failure, SensorResult, build_asset_context, build_sensor_context
from kafka.admin import KafkaAdminClient, NewTopic
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.rollouts import deployment, registered_version, supervised, tracking
from usedcars_assets.references import Rollout
from usedcars_assets.resources.deployment import ServingDeployment
from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.ledger import Entry, read_promotions
from usedcars_assets.rollout.new_versions import version_to_roll_out
from usedcars_assets.rollout.promotion_ledger import new_ledger_entries, promotion_ledger
from usedcars_assets.rollout.serving_rollout import RolloutConfig, serving_rollout
from usedcars_assets.settings import Settings

pytestmark = pytest.mark.services

RESPONDER = Path(__file__).with_name("responder.py")
PROGRAMS = """
[program:serving]
command={command}
autostart=false
startsecs=1
startretries=1
stopwaitsecs=5
stdout_logfile={folder}/serving.log
redirect_stderr=true
"""
STANDBY = """
[program:serving-standby]
command=sleep 600
autostart=false
startsecs=0
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Service:
    """Everything that a rollout touches, under names of its own."""

    def __init__(self, values: Settings, folder: Path) -> None:
        name = f"rollout-{uuid.uuid4().hex[:8]}"
        self.topics = Topics(
            bootstrap_servers=values.kafka_bootstrap_servers,
            requests=f"{name}.requests",
            predictions=f"{name}.predictions",
            live_metrics=f"{name}.live-metrics",
            input_drift=f"{name}.input-drift",
            takeovers=f"{name}.takeovers",
            promotions=f"{name}.promotions",
        )
        admin = KafkaAdminClient(bootstrap_servers=values.kafka_bootstrap_servers)
        names = (self.topics.requests, self.topics.predictions)
        ledger = (self.topics.promotions, self.topics.takeovers)
        admin.create_topics([NewTopic(topic, 1, 1) for topic in (*names, *ledger)], wait_for_metadata=True)
        admin.close()
        self.mlflow = tracking(values.mlflow_tracking_uri, name)
        self.client: MlflowClient = self.mlflow.client()
        self.client.create_registered_model(name)
        self.name = name
        port = free_port()
        self.deployment = deployment(folder, port)
        files_and_names = (
            RESPONDER,
            values.kafka_bootstrap_servers,
            *names,
            values.mlflow_tracking_uri,
            name,
            port,
        )
        self.command = " ".join(map(str, (sys.executable, *files_and_names)))

    def register(self, behaviour: str = "answers") -> str:
        run = self.client.create_run(self.mlflow.experiment_id()).info
        self.client.set_terminated(run.run_id)
        version = self.client.create_model_version(
            self.name, f"{run.artifact_uri}/model", run.run_id, tags={"behaviour": behaviour}
        )
        return str(version.version)

    def roll_out(self, version: str, timeout: float = 60, **instead: Any) -> Rollout:
        registered = registered_version(self.name, version, '{"year": "2018"}')
        resources = {"mlflow": self.mlflow, "deployment": self.deployment, "topics": self.topics, **instead}
        # Closed here: one that is left to the garbage collector brings back an instance that is gone.
        with build_asset_context() as context:
            found: Any = serving_rollout(
                context,
                config=RolloutConfig(timeout_seconds=timeout),
                registered_model=registered,
                **resources,
            )
        assert isinstance(found.value, Rollout)
        return found.value

    def other_topics(self, **instead: str) -> Topics:
        return Topics(**{name: getattr(self.topics, name) for name in Topics.model_fields} | instead)

    def ledger(self) -> list[Entry]:
        return read_promotions(self.topics)

    def await_alias(self, version: str) -> None:
        deadline = time.monotonic() + 60
        while self.served() != version:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def served(self) -> str | None:
        try:
            return str(self.client.get_model_version_by_alias(self.name, "serving").version)
        except MlflowException:
            return None


@pytest.fixture
def service(platform: Any, request: pytest.FixtureRequest) -> Iterator[Service]:
    with TemporaryDirectory(prefix="uc-") as temporary:
        folder = Path(temporary)
        service = Service(Settings(), folder)  # type: ignore[call-arg]
        programs = PROGRAMS + getattr(request, "param", "")
        with supervised(folder, programs.format(folder=folder, command=service.command)):
            yield service


def test_a_version_is_in_service_once_it_has_answered(service: Service) -> None:
    first = service.roll_out(service.register())
    assert (first.version, first.previous, service.served()) == ("1", None, "1")
    second = service.roll_out(service.register())
    assert (second.version, second.previous, service.served()) == ("2", "1", "2")
    assert second.seconds_to_first_answer > 0
    assert service.client.get_model_version(service.name, "2").tags["rollout"] == "served"
    told = service.ledger()
    assert [(entry.kind, entry.outcome, entry.version, entry.former) for entry in told] == [
        ("rollout", "begun", "1", None),
        ("rollout", "answered", "1", None),
        ("rollout", "begun", "2", "1"),
        ("rollout", "answered", "2", "1"),
    ]
    assert told[-1].seconds == second.seconds_to_first_answer


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("silent", "nothing answered within"),
        ("refused", "it has no price for its own input example"),
        ("rejects", "it rejects the listing that it was registered with (missing_year)"),
        ("dies", "serving did not start (it ended by itself 2 times"),
    ],
)
def test_a_version_that_does_not_answer_gives_way_to_the_one_before(
    service: Service, behaviour: str, reason: str
) -> None:
    service.roll_out(service.register())
    bad = service.register(behaviour)
    with pytest.raises(Failure) as caught:
        service.roll_out(bad, timeout=8 if behaviour == "silent" else 60)
    told = str(caught.value.description)
    assert told.startswith("Version 2 did not come into service: ")
    assert reason in told
    assert told.endswith("Version 1 is back and answers.")
    assert service.served() == "1"
    assert service.client.get_model_version(service.name, bad).tags["rollout"].startswith("failed: ")
    last = service.ledger()[-1]
    assert (last.kind, last.outcome, last.version, last.former) == ("rollout", "undone", bad, "1")
    assert reason in last.reason


def test_a_rollout_whose_process_is_killed_is_ended_by_the_next_one(service: Service) -> None:
    service.roll_out(service.register())
    bad = service.register("silent")
    killed = multiprocessing.get_context("fork").Process(target=service.roll_out, args=(bad,))
    killed.start()
    service.await_alias(bad)
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    left = version_to_roll_out(service.client.search_model_versions(f"name='{service.name}'"), bad)
    assert left is not None
    with pytest.raises(Failure, match="Version 1 is back and answers"):
        service.roll_out(str(left.version), timeout=8)
    assert service.served() == "1"


def test_kafka_away_after_the_alias_has_moved_is_waited_for(service: Service, platform: Any) -> None:
    service.roll_out(service.register())
    second = service.register("silent")
    with ThreadPoolExecutor(1) as thread:
        rollout = thread.submit(service.roll_out, second)
        service.await_alias(second)
        with platform.without("kafka"):
            service.client.set_model_version_tag(service.name, second, "behaviour", "answers")
        assert rollout.result(120).previous == "1"
    assert service.served() == second


def test_mlflow_away_while_a_version_is_to_be_put_back_is_waited_for(service: Service, platform: Any) -> None:
    service.roll_out(service.register())
    bad = service.register("silent")
    with ThreadPoolExecutor(1) as thread:
        rollout = thread.submit(service.roll_out, bad, timeout=20)
        service.await_alias(bad)
        with platform.without("mlflow"):
            time.sleep(22)  # and as long as it takes to start: when the rollout gives up, it is not there yet
        with pytest.raises(Failure, match="Version 1 is back and answers"):
            rollout.result(300)
    assert service.served() == "1"


def test_a_first_version_that_does_not_answer_leaves_serving_waiting(service: Service) -> None:
    with pytest.raises(Failure, match="serving waits for the next"):
        service.roll_out(service.register("silent"), timeout=8)
    assert service.served() is None


@pytest.mark.parametrize("service", [STANDBY], indirect=True, ids=["with a standby"])
def test_a_rollout_sees_to_it_that_the_standby_runs_too(service: Service) -> None:
    serving = service.deployment.connect()
    assert "serving-standby is STOPPED" in serving.describe()
    service.roll_out(service.register())
    assert "serving is RUNNING and serving-standby is RUNNING" in serving.describe()


def test_a_rollout_that_the_ledger_can_not_tell_of_stays(service: Service) -> None:
    without_ledger = service.other_topics(promotions="no-such-topic")
    assert service.roll_out(service.register(), topics=without_ledger).version == "1"
    assert service.served() == "1"
    assert service.ledger() == []


def test_the_ledger_is_an_asset_that_is_renewed_when_there_are_new_entries(
    service: Service, instance: DagsterInstance
) -> None:
    def look(cursor: str | None) -> SensorResult:
        with build_sensor_context(instance=instance, cursor=cursor) as context:
            found: Any = new_ledger_entries(context, topics=service.topics)
        assert isinstance(found, SensorResult)
        return found

    service.roll_out(service.register())
    first = look(None)
    (shown,) = first.asset_events
    assert shown.asset_key == promotion_ledger.key
    assert shown.metadata["rollouts_answered"].value == 1
    assert "| rollout | answered | 1 |" in str(shown.metadata["newest"].value)
    again = look(first.cursor)
    assert (again.asset_events, again.cursor) == ([], None)
    assert again.skip_reason is not None


def test_without_supervisor_nothing_is_touched(service: Service) -> None:
    away = ServingDeployment(supervisor_socket="/nowhere/supervisor.sock", serving_urls=[])
    with pytest.raises(Failure) as caught:
        service.roll_out(service.register(), deployment=away)
    assert str(caught.value.description).startswith("There is no Supervisor at /nowhere/supervisor.sock")
    assert service.served() is None


def test_without_kafka_nothing_is_touched(service: Service) -> None:
    away = service.other_topics(bootstrap_servers="127.0.0.1:9")
    with pytest.raises(Failure) as caught:
        service.roll_out(service.register(), topics=away)
    assert str(caught.value.description).startswith("Kafka does not answer while rolling out version 1")
    assert service.served() is None


def test_without_mlflow_nothing_is_touched(service: Service) -> None:
    away = tracking("http://127.0.0.1:9", service.name)
    version = service.register()
    with pytest.raises(Failure) as caught:
        service.roll_out(version, mlflow=away)
    assert str(caught.value.description).startswith("MLflow does not answer while rolling out version 1")
    assert service.served() is None
