"""Live metrics against real Kafka and Spark."""

import base64
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from confluent_kafka import Producer

pytestmark = pytest.mark.services

PREDICTED = [10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0]
OUTCOMES = ("late", "behind_watermark", "duplicates", "contradictory", "rejected", "orphans")
ERRORS = [500.0, -700.0, 300.0, 1_100.0, -2_000.0]


def answer(
    request_id: str,
    price: float | None,
    version: str,
    offset: int = 0,
    generation: int = 2,
    within: float | None = None,
) -> bytes:
    """A price, with an interval of as many dollars on both sides, or a rejection."""
    fields = {"request_id": request_id, "model_version": version, "generation": generation}
    said = {"type": "rejection", "reason": "missing_year", "field": "year"}
    if price is not None:
        low, high = (None, None) if within is None else (price - within, price + within)
        said = {"type": "price", "price": price, "price_low": low, "price_high": high}
    return json.dumps({**said, **fields, "source_partition": 0, "source_offset": offset}).encode()


def price_set(request_id: str, price: float) -> bytes:
    return json.dumps({"type": "price_set", "request_id": request_id, "price": price}).encode()


def write(room: Any, topic: str, values: list[bytes], at: float | None = None) -> None:
    """Write records to partition 0, of the time `at` (seconds; None: now)."""
    producer = Producer({"bootstrap.servers": room.brokers})
    for value in values:
        producer.produce(topic, value, partition=0, timestamp=int((at or time.time()) * 1000))
    producer.flush()


def totals(
    room: Any, version: str, good: Callable[[dict[str, Any]], bool], seconds: float = 240
) -> dict[str, Any]:
    """The newest totals of a version, once they are as they should be."""
    deadline = time.monotonic() + seconds
    while True:
        told = [f for f in room.read(room.live_totals, 0, 10, quiet=0.3) if f["model_version"] == version]
        if told and good(told[-1]):
            return told[-1]
        assert time.monotonic() < deadline, f"totals of {version}: {told[-1:]}"


def outcomes(figures: dict[str, Any]) -> dict[str, int]:
    return {name: figures[name] for name in ("received", "count", *OUTCOMES)}


def newest(room: Any, version: str, count: int, seconds: float = 240) -> dict[str, Any]:
    """The newest figures of a version, once they tell of so many prices."""
    deadline = time.monotonic() + seconds
    while True:
        told = [f for f in room.read(room.live_metrics, 0, 10, quiet=0.3) if f["model_version"] == version]
        if told and told[-1]["count"] >= count:
            return told[-1]
        assert time.monotonic() < deadline, f"version {version}, {count} prices: {told[-1:]}"


def start(room: Any) -> Any:
    # One window whatever the time of day, so that all prices of the test fall into it.
    return room.start(
        "live_metrics", USEDCARS_LIVE_METRICS_WINDOW="1 day", USEDCARS_LIVE_METRICS_SLIDE="1 day"
    )


REJECTED = [b'{"type": "price_request", "request_id": "r0"}', b"\xff\x00", b'{"request_id": "r2"}']
TRUE = [price - error for price, error in zip(PREDICTED, ERRORS, strict=True)]


@dataclass
class Measured:
    """A room, live metrics that were killed in mid-work there and started again, and when that began."""

    room: Any
    process: Any
    began: float

    def kill_and_start_anew(self) -> None:
        self.process.kill()
        self.process = start(self.room).await_ready()


@pytest.fixture(scope="module")
def measured(open_room: Callable[[Path], Any]) -> Iterator[Measured]:
    with TemporaryDirectory(prefix="uc-") as folder, open_room(Path(folder)) as room:
        now = time.time()
        write_what_is_measured_first(room)
        write_what_is_judged_first(room, now)
        process = start(room).await_ready()
        assert newest(room, "1", 3)["count"] == 3
        told = totals(room, "all", lambda f: f["received"] == 9)
        assert outcomes(told) == counts(received=9, count=7, late=1, rejected=1)
        room.read(room.dead_letters, 3)

        process.kill()
        write(room, room.predictions, [answer("r2", None, "1", 2)])
        again, unknown, unreadable = price_set("a0", 1.0), price_set("nobody", 5.0), b"\xff"
        write(room, room.requests, [price_set("a3", TRUE[3]), again, unknown, unreadable])
        write(room, room.requests, [price_set("x", 9_000.0)] * 2 + [price_set("x", 7_000.0)])
        write(room, room.requests, [price_set("no one", 1.0), price_set("late answer", 7_500.0)], at=now + 20)
        write(room, room.requests, [price_set("y", 8_000.0), price_set("z", 8_000.0)], at=now + 2)
        yield Measured(room, start(room).await_ready(), now)


def write_what_is_measured_first(room: Any) -> None:
    """Answers of the versions 1, 2, 8 and 9, and the first prices of some."""
    began = {"generation": 2, "instance": "b", "model": "m", "version": "9", "began_at": ""}
    takeover = {**began, "topic_id": "", "next_offsets": {"0": 1}, "answers_from": {"0": 1}}
    write(room, room.takeovers, [json.dumps(takeover).encode()])
    write(
        room,
        room.predictions,
        [
            answer("before", 10_000.0, "8", 10, generation=1),
            answer("stray first", 11_000.0, "8", 11, generation=1),
            answer("stray first", 10_000.0, "9", 11),
            answer("stray last", 10_000.0, "9", 12),
            answer("stray last", 11_000.0, "8", 12, generation=1),
            answer("before", 10_000.0, "9", 13),
            *(answer(f"r{n}", None, "1", n) for n in range(2)),
            *(answer(f"a{n}", price, "1", 20 + n, within=1_000) for n, price in enumerate(PREDICTED)),
            answer("b", 9_000.0, "2", 30),
            b"?",
            b'{"type": "rejection"}',
        ],
    )
    write(room, room.requests, REJECTED)
    twice = [price_set(name, 10_000.0) for name in ("before", "stray first", "stray last")]
    write(room, room.requests, [*twice, *(price_set(f"a{n}", TRUE[n]) for n in range(3))])


def write_what_is_judged_first(room: Any, now: float) -> None:
    """Answers of version 5, some of them long ago, and the first prices, each for a rule of its own."""
    long_ago = [answer("slow", 8_000.0, "5", 100), answer("slower", 8_000.0, "5", 101)]
    write(room, room.predictions, long_ago, at=now - 5_000)
    write(room, room.predictions, [answer(name, 8_000.0, "5", n + 102) for n, name in enumerate("xyz")])
    write(room, room.predictions, [answer("no", None, "5", 3)], at=now)
    write(room, room.requests, [price_set("x", 9_000.0)], at=now + 10)
    write(room, room.requests, [price_set("slow", 9_000.0), price_set("no", 9_000.0)], at=now + 1)


def test_the_figures_are_those_of_the_prices_set_and_a_kill_9_neither_loses_nor_doubles_any(
    measured: Measured,
) -> None:
    room, process = measured.room, measured.process
    write(room, room.requests, [price_set("a4", TRUE[4])])
    newest(room, "1", 5)
    waited = []
    for n in range(5):
        sent_at = time.time()
        write(room, room.predictions, [answer(f"c{n}", 9_000.0, "3", 40 + n)])
        write(room, room.requests, [price_set(f"c{n}", 10_000.0)])
        waited.append(newest(room, "3", n + 1)["logged_at"] - sent_at)
    print(f"\na set price showed in the figures within {min(waited):.1f} to {max(waited):.1f} s")
    write(room, room.requests, [price_set("b", 10_000.0)])

    figures = newest(room, "1", 5)
    squares = [error**2 for error in ERRORS]
    assert figures["count"] == 5
    assert figures["mae"] == pytest.approx(statistics.mean(map(abs, ERRORS)))
    assert figures["rmse"] == pytest.approx(math.sqrt(statistics.mean(squares)))
    assert figures["bias"] == pytest.approx(statistics.mean(ERRORS))
    assert figures["median_absolute_error"] == pytest.approx(700)
    assert figures["mape"] == pytest.approx(
        statistics.mean(abs(error) / price for error, price in zip(ERRORS, TRUE, strict=True))
    )
    assert figures["r2"] == pytest.approx(1 - statistics.mean(squares) / statistics.pvariance(TRUE))
    assert figures["interval_coverage"] == pytest.approx(3 / 5)
    other = newest(room, "2", 1)
    assert (other["bias"], other["interval_coverage"]) == (pytest.approx(-1_000), None)
    together = newest(room, "all", 17)
    assert (together["count"], together["interval_coverage"]) == (17, pytest.approx(3 / 5))
    deadline = time.monotonic() + 10
    while 'usedcars_live_count{version="all"} 17.0' not in process.metrics():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_of_two_answers_to_a_request_that_of_the_later_generation_counts(measured: Measured) -> None:
    """The frozen process writes before its successor's answer, and behind it.

    A request that is asked twice is two requests, of which the first answered one has the price.
    """
    for version, requests, count in (("8", 1, 1), ("9", 3, 2)):
        told = totals(measured.room, version, lambda f, count=count: f["count"] == count)  # type: ignore[misc]
        assert (told["requests"], told["requests_priced"], told["mae"]) == (requests, count, 0)


def test_a_rejected_message_is_copied_with_the_reason_to_the_dead_letters_also_over_a_kill_9(
    measured: Measured,
) -> None:
    room = measured.room
    letters = {letter["source_offset"]: letter for letter in room.read(room.dead_letters, 4, quiet=10)}
    assert letters[0]["message_text"] == REJECTED[0].decode()
    assert base64.b64decode(letters[1]["message_base64"]) == REJECTED[1]
    assert letters[2]["message_text"] == REJECTED[2].decode()
    for n in range(3):
        told = {name: letters[n][name] for name in ("type", "source_partition", "request_id")}
        assert told == {"type": "dead_letter", "source_partition": 0, "request_id": f"r{n}"}
        assert (letters[n]["reason"], letters[n]["field"]) == ("missing_year", "year")


def test_every_set_price_is_counted_by_its_own_rule_and_a_kill_9_changes_no_count(measured: Measured) -> None:
    room, now = measured.room, measured.began
    judged = {"late": 1, "rejected": 1, "duplicates": 2, "contradictory": 2}
    told = totals(room, "all", lambda f: f["received"] == 26)
    assert outcomes(told) == counts(received=26, count=17, orphans=3, **judged)
    assert (told["requests"], told["requests_priced"]) == (20, 17)
    of_one = totals(room, "5", lambda f: f["count"] == 3)
    assert (of_one["requests"], of_one["requests_priced"], of_one["priced_share"]) == (5, 3, 0.6)
    assert 0 <= of_one["delay_p50"] <= of_one["delay_p90"] <= of_one["delay_p99"] <= 10.5

    write(room, room.predictions, [answer("late answer", 8_000.0, "6", 106)], at=now + 20)
    write(room, room.requests, [price_set("slower", 8_000.0)], at=now - 40_000)
    measured.kill_and_start_anew()
    told = totals(room, "all", lambda f: f["behind_watermark"] == 1 and f["orphans"] == 2)
    assert outcomes(told) == counts(received=27, count=18, orphans=2, behind_watermark=1, **judged)
    of_one = totals(room, "5", lambda f: f["count"] == 3)
    assert (of_one["late"], of_one["rejected"], of_one["requests"], of_one["received"]) == (1, 1, 5, None)
    metrics = measured.process.metrics()
    assert 'usedcars_live_prices_total{outcome="contradictory",version="all"} 2.0' in metrics
    assert 'usedcars_live_requests_priced_total{version="6"} 1.0' in metrics
    assert measured.process.terminate() == 0
    assert "Traceback" not in measured.process.log()


def counts(**those: int) -> dict[str, int]:
    return {name: those.get(name, 0) for name in ("received", "count", *OUTCOMES)}
