"""Serving against real Kafka, MLflow and Spark."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import psutil
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from prometheus_client.parser import text_string_to_metric_families
from tenacity import retry, stop_after_delay, wait_fixed

from tests.dashboard import queried_metrics

pytestmark = pytest.mark.services

LISTING = {"year": 2012, "mileage": 30_000}


def request(request_id: str, listing: object = LISTING) -> dict[str, Any]:
    return {"type": "price_request", "request_id": request_id, "listing": listing}


@dataclass
class Served:
    """A room, and a process that was started before there was a topic or a model."""

    room: Any
    process: Any
    model: str


@pytest.fixture(scope="module")
def served(open_room: Any) -> Iterator[Served]:
    with TemporaryDirectory(prefix="uc-") as folder, open_room(Path(folder)) as room:
        room.requests, room.predictions = f"late-{room.requests}", f"late-{room.predictions}"
        room.environment |= {
            "USEDCARS_REGISTERED_MODEL": (name := f"price-{uuid4().hex[:8]}"),
            "USEDCARS_REQUESTS_TOPIC": room.requests,
            "USEDCARS_PREDICTIONS_TOPIC": room.predictions,
            "USEDCARS_SERVING_BATCH_DURATION": "5 seconds",  # so that a batch ends between two requests
        }
        yield Served(room, room.start("serving"), name)


def test_it_waits_for_topics_and_a_model_that_fits_and_then_answers_all_that_has_been_asked(
    served: Served, registry: Any
) -> None:
    room, process, name = served.room, served.process, served.model
    process.await_health(lambda code, why: code == 503 and "no topic" in why)
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
    other = ModelSignature(inputs=Schema([ColSpec("double", "year")]), outputs=SIGNATURE_OUTPUTS)
    registry.serve(name, registry.register_other(name, registry.pipeline(), other))
    process.await_health(lambda code, why: code == 503 and "has the signature" in why)
    registry.serve(name, registry.register_other(name, registry.pipeline(price="CAST('NaN' AS DOUBLE)")))
    process.await_health(lambda code, why: code == 503 and "no price for its own input example" in why)
    version = registry.register(name)
    registry.serve(name, version)
    process.await_ready()
    answers = room.new_answers(at_least=3)

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
        env=room.environment,
        check=True,
    )
    assert json.loads(asked.stdout)["price"] == pytest.approx(answers[0]["price"])
    room.new_answers(at_least=1)


SIGNATURE_OUTPUTS = Schema(
    [ColSpec("double", "price"), ColSpec("string", "rejection"), ColSpec("string", "rejection_field")]
)


def test_added_partitions_are_answered_too_unless_their_answers_have_no_place_or_no_core(
    served: Served,
) -> None:
    room, process = served.room, served.process
    admin = AdminClient({"bootstrap.servers": room.brokers})

    def grow(topic: str, partitions: int) -> None:
        for grown in admin.create_partitions([NewPartitions(topic, partitions)]).values():
            grown.result()

    def ask(*partitions: int) -> None:
        for partition in partitions:
            asked.append((f"{partition} of {len(asked)}", partition))
            room.send(request(asked[-1][0]), partition=partition)

    asked: list[tuple[str, int]] = []
    ask(0, 1)
    grow(room.requests, 3)
    process.await_log("has 2 partitions and")
    ask(0, 1)
    grow(room.predictions, 4)
    process.await_log("partitions_changed")
    ask(0, 1, 2)
    answers = room.new_answers(at_least=len(asked))
    assert sorted((answer["request_id"], answer["source_partition"]) for answer in answers) == sorted(asked)
    assert all(answer["partition"] == answer["source_partition"] for answer in answers)

    grow(room.requests, 4)
    process.await_log("partitions_not_answered")
    ask(0, 2)
    assert len(room.new_answers(at_least=2)) == 2
    assert process.health("live") == (200, "ok")


# Figures of batches are there once the first of the query, begun anew for more partitions, has ended.
@retry(stop=stop_after_delay(60), wait=wait_fixed(0.5), reraise=True)
def test_every_metric_that_the_dashboard_asks_for_is_told(served: Served) -> None:
    told = {
        sample.name
        for family in text_string_to_metric_families(served.process.metrics())
        for sample in family.samples
    }
    queried = queried_metrics("usedcars_serving_", "usedcars_requests_", "usedcars_predictions_")
    assert queried
    assert queried <= told


def test_asked_to_stop_it_ends_within_seconds_and_leaves_nothing_running(served: Served) -> None:
    asked_to_stop = time.monotonic()
    assert served.process.terminate() == 0
    assert time.monotonic() - asked_to_stop < 10
    gone, left = psutil.wait_procs(served.process.children, timeout=10)
    assert gone
    assert not left


def test_too_few_cores_for_the_partitions_are_said_and_not_endured(room: Any) -> None:
    process = room.start("serving", USEDCARS_SERVING_SPARK_MASTER="local[1]")
    assert process.process.wait(240) == 1
    assert "2 partitions and serving 1 Spark cores" in process.log()


def test_missing_connector_jars_are_said(room: Any) -> None:
    process = room.start("serving", USEDCARS_SPARK_JARS=os.devnull)
    assert process.process.wait(240) == 1
    assert "name the folder that holds spark-sql-kafka" in process.log()
