"""A broker that wants TLS and a login: everybody who speaks to Kafka does as it wants."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from streaming_app.client import PriceClient
from streaming_app.settings import KafkaSettings
from tests.secured_broker import PASSWORD, SecuredBroker, secured_broker
from usedcars_assets.resources.configured import configured_resources
from usedcars_assets.rollout.ledger import Entry, read_promotions, write_entry
from usedcars_assets.rollout.live_pairs import live_pairs, set_prices, span_since
from usedcars_assets.settings import Settings

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def broker(
    tmp_path_factory: pytest.TempPathFactory, jars: Path, free_offset: Callable[[], int]
) -> Iterator[SecuredBroker]:
    with secured_broker(tmp_path_factory.mktemp("broker"), jars, free_offset) as broker:
        yield broker


@pytest.fixture
def secured_room(
    broker: SecuredBroker, open_room: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A room on that broker: the test itself uses the plain listener, processes and clients the other."""
    with open_room(tmp_path, broker.plain) as room:
        room.environment |= broker.environment
        for name, value in room.environment.items():
            if name.startswith("USEDCARS_") and name != "USEDCARS_HOME":
                monkeypatch.setenv(name, value)
        yield room


def test_serving_live_metrics_clients_and_the_ledger_log_in_and_encrypt(
    secured_room: Any, spark: SparkSession, tmp_path: Path
) -> None:
    serving = secured_room.start("serving").await_ready()
    metrics = secured_room.start("live_metrics", place=1).await_ready()
    with PriceClient(KafkaSettings()) as client:
        answer = client.price({"year": 2010, "mileage": 0}, seconds=60)
        client.set_price(str(answer["request_id"]), 9_000)
        client.price({}, seconds=60)  # a rejection, for the dead letters
    figures = secured_room.read(secured_room.live_totals, 1)
    assert {each["model_version"] for each in figures} >= {"1"}
    (letter,) = secured_room.read(secured_room.dead_letters, 1)
    assert letter["reason"] == "missing_year"

    topics = configured_resources(Settings())["topics"].process_config_and_initialize()
    assert write_entry(topics, Entry("rollout", "begun", "usedcars-price", "1")) is None
    assert [entry.kind for entry in read_promotions(topics)] == ["rollout"]
    spans = [span_since(topics, topic, 0, 1_000) for topic in (topics.requests, topics.predictions)]
    prices = set_prices(spark, topics, spans[0])
    (pair,) = live_pairs(spark, topics, *spans, "1", prices).collect()
    assert pair.set_price == 9_000

    raw, told = tmp_path / "raw.csv", tmp_path / "told.json"
    simulation = [sys.executable, "-m", "simulation.cli"]
    subprocess.run([*simulation, "generate", "--rows", "20", "--output", raw], check=True)
    subprocess.run([*simulation, "ask", raw, "--limit", "3", "--show", "0", "--json", told], check=True)
    assert len(json.loads(told.read_text())["answers"]) == 3

    for process in (serving, metrics):
        assert PASSWORD not in process.log()
        assert json.dumps(PASSWORD)[1:-1] not in process.log()


def test_a_wrong_password_is_told_and_nothing_is_answered(secured_room: Any) -> None:
    serving = secured_room.start("serving", USEDCARS_KAFKA_PASSWORD="wrong")
    serving.await_log("uthentication")
    assert serving.health("ready")[0] != 200


def test_a_login_without_a_name_is_refused_in_one_sentence(secured_room: Any) -> None:
    serving = secured_room.start("serving", USEDCARS_KAFKA_USERNAME="")
    assert serving.process.wait(60) != 0
    assert "set USEDCARS_KAFKA_USERNAME and USEDCARS_KAFKA_PASSWORD" in serving.log()
    assert "Traceback" not in serving.log()
