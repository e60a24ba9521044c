"""The promotion ledger on the command line, against real Kafka."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

pytestmark = pytest.mark.services

USEDCARS = str(Path(sys.executable).with_name("usedcars"))


def write(room: Any, topic: str, *records: dict[str, Any]) -> None:
    producer = Producer({"bootstrap.servers": room.brokers})
    for record in records:
        producer.produce(topic, json.dumps(record))
    producer.flush()


def promotion(at: str, kind: str, outcome: str, version: str) -> dict[str, Any]:
    told = {"at": at, "kind": kind, "outcome": outcome, "model": "price", "version": version}
    return {**told, "former": None, "reason": "", "seconds": None, "run_id": "run", "evidence": {}}


def takeover(at: str, generation: int, version: str) -> dict[str, Any]:
    who = {"generation": generation, "instance": "host-1", "model": "price", "version": version}
    return {**who, "began_at": at, "topic_id": "t", "next_offsets": {}, "answers_from": {}}


def ledger(room: Any, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [USEDCARS, "ledger", *options],
        env={**room.environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_promotions_and_takeovers_are_listed_together_in_the_order_of_time(room: Any) -> None:
    write(
        room,
        room.promotions,
        promotion("2026-01-01T10:00:00.000Z", "registration", "done", "7"),
        promotion("2026-01-01T10:00:01.000Z", "rollout", "begun", "7"),
        promotion("2026-01-01T10:00:03.000Z", "rollout", "answered", "7"),
    )
    write(room, room.takeovers, takeover("2026-01-01T10:00:02.000Z", 4, "7"))
    lines = [json.loads(line) for line in ledger(room, "--json").stdout.splitlines()]
    assert [(line["kind"], line["outcome"]) for line in lines] == [
        ("registration", "done"),
        ("rollout", "begun"),
        ("takeover", "done"),
        ("rollout", "answered"),
    ]
    assert len({tuple(sorted(line)) for line in lines}) == 1
    shown = ledger(room, "--last", "2").stdout.splitlines()
    assert len(shown) == 3
    assert "generation 4" in shown[1]
    assert "answered" in shown[2]


def test_a_ledger_that_can_not_be_read_says_so_in_one_sentence(room: Any) -> None:
    room.environment["USEDCARS_KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:9"
    done = ledger(room)
    assert done.returncode == 2
    assert done.stderr.startswith("Kafka at 127.0.0.1:9 does not answer")
