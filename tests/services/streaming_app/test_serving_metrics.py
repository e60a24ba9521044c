"""What serving tells Prometheus, against real Kafka and Spark."""

import json
import time
from threading import Event
from typing import Any

import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from streaming_app.answer_figures import ANSWERS_A_SECOND, AnswerFigures, AnswerReader
from streaming_app.settings import ServingSettings
from tests.dashboard import queried_metrics

pytestmark = pytest.mark.services


def samples(text: str) -> dict[tuple[str, str], float]:
    """The samples of a metrics page, by name and the values of their labels."""
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def await_samples(process: Any, wanted: dict[tuple[str, str], float], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not wanted.items() <= (found := samples(process.metrics())).items():
        assert time.monotonic() < deadline, f"not within {seconds} s: {wanted}\n{process.metrics()}"
        time.sleep(0.2)
    return found


def test_the_active_process_tells_its_answers_rejections_latency_lag_and_version_and_the_standby_its_role(
    room: Any,
) -> None:
    active = room.start("serving", USEDCARS_SERVING_BATCH_DURATION="5 seconds").await_ready()
    version = active.page()["version"]
    listing = {"year": 2012, "mileage": 30_000}
    asked = [{"type": "price_request", "request_id": f"r{n}", "listing": listing} for n in range(7)]
    nameless = [{"type": "price_request", "request_id": f"n{n}", "listing": {}} for n in range(2)]
    room.send(*asked, *nameless, b"?", {"type": "price_set", "request_id": "r0", "price": 9_000})
    room.answers(at_least=10)
    found = await_samples(
        active,
        {
            ("usedcars_serving_answers_read_total", ""): 10,
            ("usedcars_serving_answers_unread_total", ""): 0,
            ("usedcars_serving_rejections_total", "missing_year"): 2,
            ("usedcars_serving_rejections_total", "not_json"): 1,
            ("usedcars_serving_latency_seconds_count", ""): 10,
            ("usedcars_serving_latency_seconds_bucket", "+Inf"): 10,
            ("usedcars_serving_active", ""): 1,
            ("usedcars_serving_standby", ""): 0,
            ("usedcars_serving_model", f"active {version}"): 1,
            ("usedcars_requests_messages_total", ""): 11,
            ("usedcars_predictions_messages_total", ""): 10,
            ("usedcars_serving_lag_messages", ""): 1,  # the set price behind the last answer
        },
    )
    assert 0 < found["usedcars_serving_latency_seconds_sum", ""] < 10 * 30

    standby = room.start("serving", 1).await_ready()
    await_samples(
        standby,
        {
            ("usedcars_serving_active", ""): 0,
            ("usedcars_serving_standby", ""): 1,
            ("usedcars_serving_model", f"standby {version}"): 1,
            ("usedcars_serving_answers_read_total", ""): 0,
        },
    )
    exposed = {name for name, _ in samples(active.metrics())}
    queried = queried_metrics("usedcars_serving_", "usedcars_requests_", "usedcars_predictions_")
    assert queried
    assert queried <= exposed, "every metric in the dashboard's queries is exposed"


def test_however_fast_answers_come_a_bounded_number_is_read_and_the_rest_is_counted(room: Any) -> None:
    rate, seconds = 20_000, 8
    settings = ServingSettings(
        kafka_bootstrap_servers=room.brokers, predictions_topic=room.predictions, serving_group="figures"
    )
    answer = {
        "type": "price",
        "request_id": "0b9f7c1e-6f0d-4a55-9d0b-2f5f6d1f6a11",
        "price": 20_170.0,
        "price_low": 17_000.0,
        "price_high": 24_000.0,
        "model_version": "7",
        "generation": 12,
        "source_partition": 1,
        "source_offset": 0,
        "requested_at": None,
        "received_at": "2026-01-01T00:00:00.000Z",
        "answered_at": "2026-01-01T00:00:00.004Z",
    }
    value = json.dumps(answer).encode()
    figures, stop = AnswerFigures(), Event()
    reader = AnswerReader(settings, figures, stop)
    reader.begin({0: 0, 1: 0})
    producer = Producer({"bootstrap.servers": room.brokers, "queue.buffering.max.messages": 1_000_000})
    sent, began, used = 0, time.monotonic(), time.process_time()
    while (elapsed := time.monotonic() - began) < seconds:
        while sent < elapsed * rate:
            producer.produce(room.predictions, value, partition=sent % 2, timestamp=1_767_225_600_004)
            sent += 1
        producer.poll(0)
        time.sleep(0.01)
    producer.flush()
    used = time.process_time() - used

    def counted() -> dict[str, float]:
        return {s.name: s.value for family in figures.collect() for s in family.samples if not s.labels}

    deadline = time.monotonic() + 60
    while sum(counted()[f"usedcars_serving_answers_{kind}_total"] for kind in ("read", "unread")) < sent:
        assert time.monotonic() < deadline, counted()
        time.sleep(0.1)
    stop.set()
    read = counted()["usedcars_serving_answers_read_total"]
    print(f"\n{sent} answers in {seconds} s, {read:.0f} read; sending and reading took {used:.1f} s of CPU")
    assert 0 < read <= ANSWERS_A_SECOND * (time.monotonic() - began + 1)
    assert read < sent / 2
    assert counted()["usedcars_serving_latency_seconds_sum"] == pytest.approx(read * 0.004, rel=1e-3)
    assert [
        s.value for family in figures.collect() for s in family.samples if s.labels == {"le": "0.005"}
    ] == [read]
