"""Requests and answers over the real Kafka; a few lines that answer by rule play the platform."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from typer.testing import CliRunner

from simulation.asking import ask, read_questions
from simulation.cli import app
from simulation.generation import generate_listings
from simulation.settings import SimulationSettings

pytestmark = pytest.mark.services

Rule = Callable[[dict[str, Any]], dict[str, Any] | None]


@pytest.fixture
def settings(platform: Any, monkeypatch: pytest.MonkeyPatch) -> SimulationSettings:
    topic = f"test-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("USEDCARS_REQUESTS_TOPIC", f"{topic}.requests")
    monkeypatch.setenv("USEDCARS_PREDICTIONS_TOPIC", f"{topic}.predictions")
    settings = SimulationSettings()
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    admin.create_topics(
        [
            NewTopic(name, num_partitions=2, replication_factor=1)
            for name in (settings.requests_topic, settings.predictions_topic)
        ]
    )
    admin.close()
    return settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for _ in generate_listings(tmp_path / "raw.csv", 40, seed=8):
        pass
    return tmp_path / "raw.csv"


class Answerer:
    """Answers every price request by the rule, to the partition of the same number; keeps all it was sent."""

    def __init__(self, settings: SimulationSettings) -> None:
        self.settings = settings
        self.messages: list[dict[str, Any]] = []
        self.rule: Rule = lambda message: {"type": "price", "price": 20_000.0}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        servers = self.settings.kafka_bootstrap_servers
        consumer = KafkaConsumer(bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest")
        producer = KafkaProducer(bootstrap_servers=servers)
        consumer.assign([TopicPartition(self.settings.requests_topic, number) for number in (0, 1)])
        while not self._stop.is_set():
            for records in consumer.poll(timeout_ms=50).values():
                for record in records:
                    message = json.loads(record.value)
                    self.messages.append(message)
                    answer = self.rule(message) if message["type"] == "price_request" else None
                    if answer is not None:
                        self._answer(producer, record, message["request_id"], answer)
        producer.close()
        consumer.close()

    def _answer(self, producer: Any, record: Any, request_id: str, answer: dict[str, Any]) -> None:
        place = {"source_partition": record.partition, "source_offset": record.offset, "model_version": "7"}
        value = json.dumps({"request_id": request_id, **place, **answer}).encode()
        producer.send(self.settings.predictions_topic, value, record.key, partition=record.partition)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)


@pytest.fixture
def answerer(settings: SimulationSettings) -> Iterator[Answerer]:
    answerer = Answerer(settings)
    yield answerer
    answerer.stop()


def test_requests_hold_the_raw_listing_without_its_price_and_prices_follow_later(
    settings: SimulationSettings, answerer: Answerer, file: Path
) -> None:
    conversation = ask(read_questions(file, 20), settings, rate=100, price_delay=0.5, timeout=20)
    assert all(question.answer for question in conversation.questions)
    deadline = time.monotonic() + 20
    while len(answerer.messages) < 40 and time.monotonic() < deadline:
        time.sleep(0.1)
    requests = [message for message in answerer.messages if message["type"] == "price_request"]
    prices = {m["request_id"]: m["price"] for m in answerer.messages if m["type"] == "price_set"}
    assert len({message["request_id"] for message in requests}) == len(requests) == 20
    for message in requests:
        assert len(message["listing"]) == 64
        assert not {"price", "savings_amount"} & message["listing"].keys()
    assert prices == {question.request_id: question.true_price for question in conversation.questions}
    places = {
        message["request_id"]: place for place, message in enumerate(answerer.messages) if "price" in message
    }
    assert all(places[m["request_id"]] > answerer.messages.index(m) for m in requests)


def test_answers_are_written_beside_the_true_prices_with_place_version_and_latency(
    settings: SimulationSettings, answerer: Answerer, file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.json"
    arguments = ["ask", str(file), "--limit", "10", "--rate", "100", "--no-prices", "--json", str(output)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "10 asked, 10 priced, 0 unanswered" in result.output
    content = json.loads(output.read_text())
    true = [question.true_price for question in read_questions(file, 10)]
    assert [answer["true_price"] for answer in content["answers"]] == true
    for answer in content["answers"]:
        assert (answer["price"], answer["model_version"]) == (20_000.0, "7")
        assert 0 <= answer["answered_after_seconds"] < 20
        assert answer["partition"] in (0, 1)
    places = [(answer["partition"], answer["source_offset"]) for answer in content["answers"]]
    assert len(set(places)) == 10
    expected = sum(abs(20_000 - price) for price in true if price) / 10
    assert content["summary"]["mae"] == pytest.approx(expected)
    assert all(message["type"] == "price_request" for message in answerer.messages)


def test_rejections_are_told_by_reason(settings: SimulationSettings, answerer: Answerer, file: Path) -> None:
    answerer.rule = lambda message: {"type": "rejection", "reason": "missing_year", "field": "year"}
    result = CliRunner().invoke(app, ["ask", str(file), "--limit", "5", "--rate", "100", "--no-prices"])
    assert result.exit_code == 0, result.output
    assert "5 rejected: missing_year" in result.output


def test_what_stays_unanswered_is_told_and_fails(
    settings: SimulationSettings, answerer: Answerer, file: Path
) -> None:
    counted = iter(range(100))
    answerer.rule = lambda message: {"type": "price", "price": 1.0} if next(counted) % 2 else None
    arguments = ["ask", str(file), "--limit", "10", "--rate", "100", "--no-prices", "--timeout", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "10 asked, 5 priced, 5 unanswered" in result.output


def test_answers_of_the_past_are_not_taken_for_those_asked_for(
    settings: SimulationSettings, answerer: Answerer, file: Path
) -> None:
    questions = read_questions(file, 5)
    ask(questions, settings, rate=100, price_delay=None, timeout=20)
    answerer.rule = lambda message: None
    again = read_questions(file, 5)
    for question, former in zip(again, questions, strict=True):
        question.request_id = former.request_id
    conversation = ask(again, settings, rate=100, price_delay=None, timeout=2)
    assert all(question.answer is None for question in conversation.questions)


def test_a_topic_that_is_not_there_is_named(
    platform: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USEDCARS_PREDICTIONS_TOPIC", "usedcars.nothing")
    result = CliRunner().invoke(app, ["ask", str(file), "--limit", "1"])
    assert result.exit_code == 1
    assert "Kafka has no topic usedcars.nothing" in result.output
