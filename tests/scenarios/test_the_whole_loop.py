"""The platform as its users drive it: batches dropped into HDFS, answers read from Kafka.

Nothing is called by hand.

The tests of this file are one story and run in order, on a platform of their own.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import requests
from confluent_kafka import Consumer, Producer, TopicPartition

from local_platform.platform import bring_up, take_down
from local_platform.settings import PlatformSettings
from local_platform.supervisor import ProgramState, Supervisor
from simulation.asking import read_questions
from tests.answered import each_is_answered_once
from tests.dagster_api import FINISHED, DagsterGraphQL, Run
from tests.scenarios.mutations import mutated_requests

pytestmark = [pytest.mark.services, pytest.mark.timeout(1500)]

ROWS = 6_000
BATCHES = 2
MUTATED = 100_000
# Smaller than by default, as an operator would make it: what is trained is not the point here.
TRAINING = {
    "USEDCARS_TRAINING_FOLDS": "2",
    "USEDCARS_TRAINING_MEMBERS": '["gradient_boosting", "elastic_net"]',
    "USEDCARS_GRADIENT_BOOSTING_N_ESTIMATORS": "60",
    # Some 400 test rows tell a stack from its best member by chance.
    "USEDCARS_QUALITY_WORSE_THAN_BEST_MEMBER": "0.1",
}
SIMULATION = str(Path(sys.executable).with_name("usedcars-simulation"))


@dataclass
class World:
    """The platform of this story, and the outside world."""

    settings: PlatformSettings
    folder: Path
    known_runs: set[str] = field(default_factory=set)

    @property
    def dagster(self) -> DagsterGraphQL:
        return DagsterGraphQL(self.settings.url("dagster"))

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.settings.service_environment()}

    @property
    def test_part(self) -> Path:
        return self.folder / "parts" / "test.csv"

    def service(self, name: str) -> ProgramState:
        return Supervisor(self.settings).states()[name]

    def simulation(self, *arguments: str) -> None:
        subprocess.run([SIMULATION, *arguments], env=self.environment, check=True)

    def upload(self, file: Path, batch: str) -> None:
        self.simulation("upload", str(file), "--batch", batch)

    def part(self, number: int) -> Path:
        return self.folder / "parts" / f"batch-{number:04}.csv"

    def next_training(self) -> Run:
        """The training that starts next, once it has ended."""
        started = self.dagster.wait_for_new_run("training", self.known_runs)
        self.known_runs.add(started.id)
        return self.dagster.wait_until_finished(started.id)

    def ask(self, count: int, rate: float, name: str) -> "subprocess.Popen[bytes]":
        """Begin to ask for prices; the answers are read with `answers`."""
        return subprocess.Popen(
            [
                *(SIMULATION, "ask", str(self.test_part), "--limit", str(count)),
                *("--rate", str(rate), "--timeout", "180", "--json", str(self.folder / name)),
            ],
            env=self.environment,
        )

    def answers(self, name: str) -> list[dict[str, Any]]:
        document = json.loads((self.folder / name).read_text())
        answers: list[dict[str, Any]] = document["answers"]
        return answers

    def mlflow(self, path: str, **question: Any) -> dict[str, Any]:
        url = f"{self.settings.url('mlflow')}/api/2.0/mlflow/{path}"
        answer = requests.post(url, json=question, timeout=30)
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document

    def runs_in_mlflow(self) -> list[dict[str, Any]]:
        experiments = [
            experiment["experiment_id"]
            for experiment in self.mlflow("experiments/search", max_results=100)["experiments"]
        ]
        found = self.mlflow("runs/search", experiment_ids=experiments, max_results=1000)
        runs: list[dict[str, Any]] = found.get("runs", [])
        return runs


@pytest.fixture(scope="module")
def world(jars: Path, free_offset: Callable[[], int]) -> Iterator[World]:
    with (
        TemporaryDirectory(prefix="uc-", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Nobody reads the live metrics here, and their batches take half a core from the training.
        patch.setenv("USEDCARS_LIVE_METRICS_TRIGGER", "1 minute")
        for variable, value in TRAINING.items():
            patch.setenv(variable, value)
        folder = Path(name)
        settings = PlatformSettings(
            home=folder / "home", jars=jars, port_offset=free_offset(), training_memory_mb=1536
        )
        made = World(settings, folder)
        try:
            bring_up(settings, (), print)
            made.simulation(
                "generate", "--rows", str(ROWS), "--seed", "3", "--output", str(folder / "raw.csv")
            )
            made.simulation(
                *("split", str(folder / "raw.csv"), "--output", str(folder / "parts")),
                *("--batches", str(BATCHES), "--test-fraction", "0.1"),
            )
            yield made
        finally:
            print_tail_of_logs(settings)
            take_down(settings, print)


class AnswerCount:
    """All answers from now on."""

    def __init__(self, world: World) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": world.settings.address("kafka"), "group.id": "counts"}
        )
        partitions = [TopicPartition("usedcars.predictions", number) for number in (0, 1)]
        ends = [self._consumer.get_watermark_offsets(partition, timeout=10)[1] for partition in partitions]
        self._consumer.assign(
            [TopicPartition(p.topic, p.partition, end) for p, end in zip(partitions, ends, strict=True)]
        )

    def __enter__(self) -> "AnswerCount":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def until(self, count: int, seconds: float) -> list[dict[str, Any]]:
        """The answers, once there are so many and no further one comes."""
        answers: list[dict[str, Any]] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            records = self._consumer.consume(5_000, 2)
            answers += [json.loads(record.value()) for record in records]
            if not records and len(answers) >= count:
                break
        return answers


def print_tail_of_logs(settings: PlatformSettings) -> None:
    """What a failure is understood by."""
    for log in sorted(settings.logs_folder.glob("*.log")):
        print(f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-15:], sep="\n")


def test_a_raw_batch_becomes_a_live_model_that_answers(world: World) -> None:
    world.upload(world.part(1), "2026-01")
    run = world.next_training()
    assert run.status == "SUCCESS", world.dagster.failure_sentences(run.id)
    assert world.ask(60, 30, "first.json").wait(240) == 0
    answers = world.answers("first.json")
    assert each_is_answered_once(answers, 60)
    assert {answer["model_version"] for answer in answers} == {"1"}


def test_the_registry_knows_every_model_fold_and_time_and_nothing_is_left_running(world: World) -> None:
    runs = world.runs_in_mlflow()
    assert {run["info"]["status"] for run in runs} == {"FINISHED"}
    names = Counter(run["info"]["run_name"].split(" ")[0] for run in runs)
    assert {"gradient_boosting", "elastic_net", "stacked_model"} <= set(names)
    parameters = [{p["key"]: p["value"] for p in run["data"].get("params", ())} for run in runs]
    assert "2" in {found.get("folds") for found in parameters}
    assert "60" in {found.get("n_estimators") for found in parameters}
    (timed,) = [
        run for run in runs if any(m["key"] == "spark_stages" for m in run["data"].get("metrics", ()))
    ]
    stages = requests.get(
        f"{world.settings.url('mlflow')}/get-artifact",
        params={"path": "stages.json", "run_id": timed["info"]["run_id"]},
        timeout=30,
    ).json()
    steps = {step["step"]: step for step in stages["steps"]}
    assert {"cleaned_listings", "feature_tables", "gradient_boosting", "stacked_model"} <= set(steps)
    assert steps["cleaned_listings"]["read_bytes"] > 0
    alias = requests.get(
        f"{world.settings.url('mlflow')}/api/2.0/mlflow/registered-models/alias",
        params={"name": "usedcars-price", "alias": "serving"},
        timeout=30,
    ).json()
    assert alias["model_version"]["version"] == "1"


def test_a_killed_code_server_comes_back_and_the_sensors_look_again(world: World) -> None:
    os.kill(world.service("dagster-code").pid, signal.SIGKILL)
    killed = time.time()
    while world.dagster.looked_well("incoming_batches") < killed:
        assert time.time() - killed < 300
        time.sleep(1)


def test_a_batch_with_another_header_fails_with_its_sentence_and_the_model_in_service_answers_on(
    world: World,
) -> None:
    bad = world.folder / "bad.csv"
    bad.write_text("vin,price\n1,2\n")
    world.upload(bad, "2026-02-bad")
    run = world.next_training()
    assert run.status == "FAILURE"
    assert any("2026-02-bad" in sentence for sentence in world.dagster.failure_sentences(run.id))
    assert world.ask(20, 20, "after.json").wait(240) == 0
    assert {answer["model_version"] for answer in world.answers("after.json")} == {"1"}


def test_the_next_good_batch_trains_and_takes_over_while_prices_are_answered_once_each(world: World) -> None:
    world.upload(world.part(2), "2026-02")
    run = world.dagster.wait_for_new_run("training", world.known_runs)
    world.known_runs.add(run.id)
    answers: list[dict[str, Any]] = []
    is_over = False
    while not is_over:
        is_over = world.dagster.run(run.id).status in FINISHED  # and then asks once more
        assert world.ask(140, 7, "during.json").wait(400) == 0
        answers += world.answers("during.json")
    run = world.dagster.run(run.id)
    assert run.status == "SUCCESS", world.dagster.failure_sentences(run.id)
    assert each_is_answered_once(answers, len(answers))
    assert {answer["model_version"] for answer in answers} == {"1", "2"}
    jvms = (world.settings.logs_folder / "spark-jvm.log").read_text().count("jvm_started")
    assert jvms == 1, "it had the JVM of the first training"
    later = [m for each in world.runs_in_mlflow() for m in each["data"].get("metrics", ())]
    (rows,) = [m["value"] for m in later if m["key"] == "later_batches_rows"]
    assert 1_000 < rows <= ROWS / BATCHES, "version 1 was asked for the prices of the batch that it never saw"
    print(f"longest wait for an answer: {max(answer['answered_after_seconds'] for answer in answers):.1f} s")


def test_a_killed_serving_process_answers_what_it_missed_and_nothing_twice(world: World) -> None:
    asking = world.ask(300, 20, "killed.json")
    time.sleep(5)
    os.kill(world.service("serving").pid, signal.SIGKILL)
    assert asking.wait(300) == 0
    assert each_is_answered_once(world.answers("killed.json"), 300)


def test_100_000_mutated_messages_get_100_000_answers(world: World) -> None:
    listings = [question.listing for question in read_questions(world.test_part, 500)]
    began = time.monotonic()
    with AnswerCount(world) as counted:
        producer = Producer({"bootstrap.servers": world.settings.address("kafka"), "linger.ms": 20})
        for number, message in enumerate(mutated_requests(listings, MUTATED, seed=6)):
            producer.produce("usedcars.requests", message, partition=number % 2)
            producer.poll(0)
            if number % 2_000 == 0:
                producer.flush()
        producer.flush()
        answers = counted.until(MUTATED, seconds=400)
    kinds = Counter(answer.get("reason") or answer["type"] for answer in answers)
    print(f"\n{MUTATED} mutated messages answered in {time.monotonic() - began:.0f} s: {kinds.most_common()}")
    assert len(answers) == MUTATED == len({(a["source_partition"], a["source_offset"]) for a in answers})
    assert all(0 < answer["price"] < 1e7 for answer in answers if answer["type"] == "price")
    assert {"not_json", "too_large", "unknown_type", "missing_listing", "price"} <= set(kinds)
    assert world.service("serving").uptime > time.monotonic() - began, "it was started anew"


def test_one_asset_is_materialised_from_the_command_line(world: World) -> None:
    command = [sys.executable, "-m", "dagster", "asset"]
    module = ["-m", "usedcars_assets.definitions"]
    listed = subprocess.run(
        [*command, "list", *module], env=world.environment, capture_output=True, text=True, check=True
    ).stdout
    assert {"cleaned_listings", "stacked_model", "serving_rollout"} <= set(listed.split())
    subprocess.run(
        [*command, "materialize", *module, "--select", "serving_rollout"], env=world.environment, check=True
    )
    told = subprocess.run(
        [sys.executable, "-m", "streaming_app.cli", "ledger", "--json"],
        env=world.environment,
        capture_output=True,
        check=True,
    ).stdout
    rollouts = [entry for entry in map(json.loads, told.splitlines()) if entry["kind"] == "rollout"]
    assert [(entry["version"], entry["outcome"]) for entry in rollouts[-2:]] == [
        ("2", "begun"),
        ("2", "answered"),
    ]
