"""The answers that are read for Prometheus, against real Kafka."""

import json
import time
from threading import Event
from typing import Any

import pytest
from confluent_kafka import Producer

from streaming_app.answer_figures import ANSWERS_A_SECOND, AnswerFigures, AnswerReader
from streaming_app.settings import ServingSettings

pytestmark = pytest.mark.services


def test_however_fast_answers_come_a_bounded_number_is_read_and_the_rest_is_counted(room: Any) -> None:
    rate, seconds = 10_000, 5
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
