"""Serving against real Kafka, MLflow and Spark."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any
from uuid import uuid4

import psutil
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from streaming_app.generation_rule import GenerationRule

pytestmark = pytest.mark.services

LISTING = {"year": 2012, "mileage": 30_000}


def request(request_id: str, listing: object = LISTING) -> dict[str, Any]:
    return {"type": "price_request", "request_id": request_id, "listing": listing}


def by_source(answers: Iterable[dict[str, Any]]) -> Counter[tuple[int, int]]:
    return Counter((a["source_partition"], a["source_offset"]) for a in answers)


def longest_silence(answers: Iterable[dict[str, Any]]) -> float:
    times = sorted(a["logged_at"] for a in answers)
    return max(later - earlier for earlier, later in pairwise(times))


def the_active(processes: dict[int, Any]) -> int:
    """The place of the process that answers."""
    roles = {place: process.page()["role"] for place, process in processes.items()}
    (active,) = [place for place, role in roles.items() if role == "active"]
    return active


def in_the_order_of_the_log(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(answers, key=lambda answer: (answer["partition"], answer["output_offset"]))


def assert_each_answered_once_in_order(answers: list[dict[str, Any]], sent: list[str]) -> None:
    assert len(answers) == len(sent)
    assert max(by_source(answers).values()) == 1
    assert {a["request_id"] for a in answers} == set(sent)
    for partition in {a["partition"] for a in answers}:
        offsets = [a["source_offset"] for a in answers if a["partition"] == partition]
        assert offsets == sorted(offsets)
    assert all(a["partition"] == a["source_partition"] for a in answers)


def test_it_waits_for_topics_and_a_model_and_then_answers_all_that_has_been_asked(
    room: Any, registry: Any
) -> None:
    name = f"price-{uuid4().hex[:8]}"
    room.requests, room.predictions = f"late-{room.requests}", f"late-{room.predictions}"
    process = room.start(
        "serving",
        USEDCARS_REGISTERED_MODEL=name,
        USEDCARS_REQUESTS_TOPIC=room.requests,
        USEDCARS_PREDICTIONS_TOPIC=room.predictions,
    )
    process.await_health(lambda code, why: code == 503 and "no topic" in why)
    room.live_metrics += "-late"
    room.create_topics()
    process.await_health(lambda code, why: code == 503 and "no version" in why)
    assert process.health("live") == (200, "ok")
    assert not process.children, "no JVM before there is something to serve"
    room.send(
        request("a"),
        b"\xff not json",
        {"type": "price_set", "request_id": "a", "price": 9_000},
        request("b", {"mileage": 5}),
    )
    version = registry.register(name)
    registry.serve(name, version)
    process.await_ready()
    answers = room.answers(at_least=3)

    assert [(a["source_offset"], a["type"], a["request_id"]) for a in answers] == [
        (0, "price", "a"),
        (1, "rejection", None),
        (3, "rejection", "b"),
    ]
    assert [(a.get("reason"), a.get("field")) for a in answers[1:]] == [
        ("not_json", None),
        ("missing_year", "year"),
    ]
    assert {a["model_version"] for a in answers} == {version}
    assert "Traceback" not in process.log()

    asked = subprocess.run(
        [sys.executable, "-m", "streaming_app.cli", "price", "-"],
        input=json.dumps(LISTING).encode(),
        capture_output=True,
        env={
            **room.environment,
            "USEDCARS_REQUESTS_TOPIC": room.requests,
            "USEDCARS_PREDICTIONS_TOPIC": room.predictions,
        },
        check=True,
    )
    assert json.loads(asked.stdout)["price"] == pytest.approx(answers[0]["price"])

    asked_to_stop = time.monotonic()
    assert process.terminate() == 0
    assert time.monotonic() - asked_to_stop < 10
    gone, left = psutil.wait_procs(process.children, timeout=10)
    assert gone
    assert not left


def test_kill_9_at_any_moment_of_python_or_its_jvm_loses_no_request_and_answers_none_twice(room: Any) -> None:
    process = room.start("serving").await_ready()
    chance = random.Random(20)
    with room.load(rate=250) as sent:
        for victim in ("python", "jvm", "python"):
            time.sleep(chance.uniform(1, 4))
            if victim == "python":
                process.kill()
            else:
                for child in process.children:
                    child.kill()
                assert process.process.wait(30) == 1, "without its JVM it ends, to be started anew"
                assert '"failed"' in process.log()
            killed_at, children = time.monotonic(), process.children
            process = room.start("serving")
            assert not psutil.wait_procs(children, timeout=30)[1], "no JVM outlives its Python"
            print(f"\nkill -9 of {victim}: both gone after {time.monotonic() - killed_at:.2f} s")
            process.await_ready()
        time.sleep(1)
    answers = room.answers(at_least=len(sent))
    print(f"3 x kill -9: {len(sent)} requests, longest silence {longest_silence(answers):.1f} s")
    assert_each_answered_once_in_order(answers, sent)
    assert "Traceback" not in process.log()


def test_a_planned_restart_loses_no_request_and_answers_none_twice_also_with_mlflow_away(room: Any) -> None:
    process = room.start("serving").await_ready()
    with room.load(rate=250) as sent:
        time.sleep(1)
        assert process.terminate() == 0
        room.start("serving", USEDCARS_MLFLOW_TRACKING_URI="http://127.0.0.1:9").await_ready()
        time.sleep(1)
    answers = room.answers(at_least=len(sent))
    print(f"\nrestart: {len(sent)} requests, longest silence {longest_silence(answers):.1f} s")
    assert_each_answered_once_in_order(answers, sent)


def test_kill_9_of_the_active_process_with_a_warm_standby_is_over_in_seconds(
    room: Any, pytestconfig: pytest.Config
) -> None:
    kills = pytestconfig.getoption("--kills")
    processes = {place: room.start("serving", place).await_ready() for place in (0, 1)}
    chance = random.Random(7)
    with room.load(rate=300) as sent:
        for _ in range(kills):
            time.sleep(chance.uniform(1, 3))
            place = the_active(processes)
            processes[place].kill()
            processes[1 - place].await_page(lambda page: page["role"] == "active")
            processes[place] = room.start("serving", place).await_ready()
        time.sleep(1)
    answers = room.answers(at_least=len(sent))
    print(f"\n{kills} x kill -9: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)


def test_a_stopped_active_process_hands_over_to_the_standby(room: Any) -> None:
    processes = {place: room.start("serving", place).await_ready() for place in (0, 1)}
    with room.load(rate=300) as sent:
        time.sleep(2)
        place = the_active(processes)
        assert processes[place].terminate() == 0
        processes[1 - place].await_page(lambda page: page["role"] == "active")
        time.sleep(1)
    answers = room.answers(at_least=len(sent))
    print(f"\nhand-over: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)
    assert {answer["generation"] for answer in answers} == {0, 1}


def test_a_killed_standby_is_not_noticed(room: Any) -> None:
    processes = {place: room.start("serving", place).await_ready() for place in (0, 1)}
    with room.load(rate=300) as sent:
        time.sleep(1)
        processes[1 - the_active(processes)].kill()
        time.sleep(6)
    answers = room.answers(at_least=len(sent))
    print(f"\nstandby killed: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)
    assert {answer["generation"] for answer in answers} == {0}


def test_a_frozen_process_that_wakes_up_after_its_successor_answered_is_told_by_its_generation(
    room: Any,
) -> None:
    processes = {place: room.start("serving", place).await_ready() for place in (0, 1)}
    with room.load(rate=300) as sent:
        time.sleep(2)
        place = the_active(processes)
        processes[place].freeze()
        processes[1 - place].await_page(lambda page: page["role"] == "active")
        time.sleep(2)
        processes[place].thaw()
        processes[place].await_page(lambda page: page["role"] == "standby")
        time.sleep(2)
        processes[1 - place].kill()
        processes[place].await_page(lambda page: page["role"] == "active")
        time.sleep(1)
    answers = room.answers(at_least=len(sent))
    rule = GenerationRule()
    counting = [answer for answer in in_the_order_of_the_log(answers) if rule.counts(answer)]
    print(
        f"\nfrozen and woken up: {len(sent)} requests, {len(answers) - len(counting)} stray answers, "
        f"longest silence {longest_silence(answers):.2f} s"
    )
    assert_each_answered_once_in_order(counting, sent)


def test_versions_take_over_from_each_other_under_load_and_no_request_is_lost_or_answered_twice(
    room: Any, registry: Any
) -> None:
    name = f"price-{uuid4().hex[:8]}"
    versions = [registry.register(name) for _ in range(4)]
    registry.serve(name, versions[0])
    process = room.start("serving", USEDCARS_REGISTERED_MODEL=name).await_ready()
    with room.load(rate=300) as sent:
        for version in versions[1:]:
            time.sleep(2)
            registry.serve(name, version)
            process.await_model(version)
        time.sleep(1)
    answers = room.answers(at_least=len(sent))
    print(f"\n3 takeovers: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)
    in_order = sorted(answers, key=lambda answer: float(answer["logged_at"]))
    assert list(dict.fromkeys(answer["model_version"] for answer in in_order)) == versions
    assert process.process.poll() is None


def test_a_broken_successor_is_refused_with_its_reason_and_the_version_in_service_answers_on(
    room: Any, registry: Any
) -> None:
    name = f"price-{uuid4().hex[:8]}"
    good = registry.register(name)
    registry.serve(name, good)
    process = room.start("serving", USEDCARS_REGISTERED_MODEL=name).await_ready()
    broken = registry.register_other(name, registry.pipeline(price="CAST('NaN' AS DOUBLE)"))
    registry.serve(name, broken)
    process.await_page(lambda page: "no price for its own input example" in page["refused"].get(broken, ""))
    assert process.health("ready") == (200, "ok")
    room.send(request("a"))
    assert [a["model_version"] for a in room.answers(at_least=1)] == [good]


def test_a_model_with_another_signature_or_without_a_price_never_gets_ready(room: Any, registry: Any) -> None:
    name = f"price-{uuid4().hex[:8]}"
    other = ModelSignature(inputs=Schema([ColSpec("double", "year")]), outputs=SIGNATURE_OUTPUTS)
    registry.serve(name, registry.register_other(name, registry.pipeline(), other))
    process = room.start("serving", USEDCARS_REGISTERED_MODEL=name)
    process.await_health(lambda code, why: code == 503 and "has the signature" in why)

    registry.serve(name, registry.register_other(name, registry.pipeline(price="CAST('NaN' AS DOUBLE)")))
    process.await_health(lambda code, why: code == 503 and "no price for its own input example" in why)

    room.send(request("a"))
    fit = registry.register(name)
    registry.serve(name, fit)
    process.await_ready()
    assert [a["model_version"] for a in room.answers(at_least=1)] == [fit]


SIGNATURE_OUTPUTS = Schema(
    [ColSpec("double", "price"), ColSpec("string", "rejection"), ColSpec("string", "rejection_field")]
)


def test_too_few_cores_for_the_partitions_are_said_and_not_endured(room: Any) -> None:
    process = room.start("serving", USEDCARS_SERVING_SPARK_MASTER="local[1]")
    assert process.process.wait(240) == 1
    assert "2 partitions and serving 1 Spark cores" in process.log()


def test_missing_connector_jars_are_said(room: Any) -> None:
    process = room.start("serving", USEDCARS_SPARK_JARS=os.devnull)
    assert process.process.wait(240) == 1
    assert "name the folder that holds spark-sql-kafka" in process.log()
