"""Live metrics against real Kafka and Spark."""

import json
import math
import statistics
import time
from typing import Any

import pytest
from confluent_kafka import Producer

pytestmark = pytest.mark.services

PREDICTED = [10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0]
ERRORS = [500.0, -700.0, 300.0, 1_100.0, -2_000.0]


def answer(request_id: str, price: float, version: str) -> bytes:
    fields = {"type": "price", "request_id": request_id, "price": price, "model_version": version}
    return json.dumps({**fields, "source_partition": 0, "source_offset": 0}).encode()


def price_set(request_id: str, price: float) -> bytes:
    return json.dumps({"type": "price_set", "request_id": request_id, "price": price}).encode()


def write(room: Any, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": room.brokers})
    for value in values:
        producer.produce(topic, value)
    producer.flush()


def newest(room: Any, version: str, count: int, seconds: float = 240) -> dict[str, Any]:
    """The newest figures of a version, once they tell of so many prices."""
    deadline = time.monotonic() + seconds
    while True:
        told = [f for f in room.read(room.live_metrics, 0, 10, quiet=1) if f["model_version"] == version]
        if told and told[-1]["count"] >= count:
            return told[-1]
        assert time.monotonic() < deadline, f"version {version}, {count} prices: {told[-1:]}"


def start(room: Any) -> Any:
    # One window whatever the time of day, so that all prices of the test fall into it.
    return room.start(
        "live_metrics", USEDCARS_LIVE_METRICS_WINDOW="1 day", USEDCARS_LIVE_METRICS_SLIDE="1 day"
    )


def test_the_figures_are_those_of_the_prices_set_and_a_kill_9_neither_loses_nor_doubles_any(
    room: Any,
) -> None:
    true = [price - error for price, error in zip(PREDICTED, ERRORS, strict=True)]
    write(room, room.predictions, [answer(f"a{n}", price, "1") for n, price in enumerate(PREDICTED)])
    write(room, room.predictions, [answer("b", 9_000.0, "2"), b"?", b'{"type": "rejection"}'])
    write(room, room.requests, [price_set(f"a{n}", price) for n, price in enumerate(true[:3])])
    process = start(room).await_ready()
    assert newest(room, "1", 3)["count"] == 3

    process.kill()
    again = price_set("a0", 1.0)
    unknown, unreadable = price_set("nobody", 5.0), b"\xff"
    write(room, room.requests, [price_set("a3", true[3]), again, unknown, unreadable])
    process = start(room).await_ready()
    sent_at = time.monotonic()
    write(room, room.requests, [price_set("a4", true[4]), price_set("b", 10_000.0)])
    newest(room, "all", 6)
    print(f"\na set price showed in the figures within {time.monotonic() - sent_at:.1f} s, reading included")

    figures = newest(room, "1", 5)
    squares = [error**2 for error in ERRORS]
    assert figures["count"] == 5
    assert figures["mae"] == pytest.approx(statistics.mean(map(abs, ERRORS)))
    assert figures["rmse"] == pytest.approx(math.sqrt(statistics.mean(squares)))
    assert figures["bias"] == pytest.approx(statistics.mean(ERRORS))
    assert figures["median_absolute_error"] == pytest.approx(700)
    assert figures["mape"] == pytest.approx(
        statistics.mean(abs(error) / price for error, price in zip(ERRORS, true, strict=True))
    )
    assert figures["r2"] == pytest.approx(1 - statistics.mean(squares) / statistics.pvariance(true))
    assert newest(room, "2", 1)["bias"] == pytest.approx(-1_000)
    assert newest(room, "all", 6)["count"] == 6

    deadline = time.monotonic() + 10
    while 'usedcars_live_count{version="all"} 6.0' not in process.metrics():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert process.terminate() == 0
    assert "Traceback" not in process.log()
