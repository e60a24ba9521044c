"""Processes of the streaming application on topics, models and folders of their own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import mlflow
import mlflow.spark
import pandas as pd
import psutil
import pytest
import requests
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import SQLTransformer, VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import SparkSession
from tenacity import retry, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_fixed

PARTITIONS = 2
PATIENCE = 240.0  # seconds; a machine that does much else at the same time starts a JVM in minutes
WARM_UP_TOPICS = ("REQUESTS", "PREDICTIONS")
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("string", "listing")]),
    outputs=Schema(
        [ColSpec("double", "price"), ColSpec("string", "rejection"), ColSpec("string", "rejection_field")]
    ),
)
EXAMPLE = {"year": 2010, "mileage": 50_000}


def price_pipeline(spark: SparkSession, price: str) -> PipelineModel:
    """A plain Spark pipeline from a listing to a price, with a rule of its own."""
    read = """
        SELECT *, try_cast(get_json_object(listing, '$.year') AS double) AS year,
            coalesce(try_cast(get_json_object(listing, '$.mileage') AS double), 0D) AS mileage FROM __THIS__
    """
    judge = """
        SELECT *, coalesce(year, 2015D) AS known_year,
            CASE WHEN year IS NULL THEN 'missing_year' END AS rejection,
            CASE WHEN year IS NULL THEN 'year' END AS rejection_field FROM __THIS__
    """
    finish = f"SELECT *, CASE WHEN rejection IS NULL THEN {price} END AS price FROM __THIS__"  # noqa: S608
    rows = [
        (json.dumps({"year": 2000 + n % 20, "mileage": n * 997 % 150_000}), 5000.0 + 800 * (n % 20) + n % 13)
        for n in range(400)
    ]
    return Pipeline(
        stages=[
            SQLTransformer(statement=read),
            SQLTransformer(statement=judge),
            VectorAssembler(inputCols=["known_year", "mileage"], outputCol="features"),
            LinearRegression(labelCol="true_price", predictionCol="raw_price"),
            SQLTransformer(statement=finish),
        ]
    ).fit(spark.createDataFrame(pd.DataFrame(rows, columns=["listing", "true_price"])))


@dataclass
class Registry:
    """Registers pipelines as versions of models in the platform's MLflow."""

    spark: SparkSession
    client: MlflowClient
    logged: tuple[str, str] | None = None  # source and run of the fit pipeline, logged once

    def register(self, name: str) -> str:
        """Register a fit pipeline as a version of a model."""
        if self.logged is None:
            version = self.register_other(name, self.pipeline())
            found = self.client.get_model_version(name, version)
            self.logged = (found.source, found.run_id)
            return version
        return self._register(name, *self.logged)

    def register_other(
        self, name: str, pipeline: PipelineModel, signature: ModelSignature = SIGNATURE
    ) -> str:
        """Register another pipeline, or the same with another signature."""
        mlflow.set_experiment("streaming application tests")
        # Not by log_model, which scores the example in a way that serving does not use.
        with mlflow.start_run() as run, TemporaryDirectory() as folder:
            mlflow.spark.save_model(
                pipeline,
                f"{folder}/model",
                signature=signature,
                input_example=pd.DataFrame({"listing": [json.dumps(EXAMPLE)]}),
                pip_requirements=["pyspark"],
            )
            mlflow.log_artifacts(f"{folder}/model", "model")
        return self._register(name, f"{run.info.artifact_uri}/model", run.info.run_id)

    def register_distribution(self, name: str, document: dict[str, Any]) -> str:
        """Register a version that has only the distribution of its training rows."""
        mlflow.set_experiment("streaming application tests")
        with mlflow.start_run() as run:
            mlflow.log_dict(document, "model/training_distribution.json")
        return self._register(name, f"{run.info.artifact_uri}/model", run.info.run_id)

    def _register(self, name: str, source: str, run_id: str) -> str:
        with contextlib.suppress(MlflowException):
            self.client.create_registered_model(name)
        return str(self.client.create_model_version(name, source, run_id).version)

    def pipeline(self, price: str = "greatest(raw_price, 100D)") -> PipelineModel:
        return price_pipeline(self.spark, price)

    def serve(self, name: str, version: str) -> None:
        self.client.set_registered_model_alias(name, "serving", version)


@pytest.fixture(scope="session")
def registry(platform: Any, spark: SparkSession) -> Registry:
    mlflow.set_tracking_uri(platform.environment["USEDCARS_MLFLOW_TRACKING_URI"])
    return Registry(spark, MlflowClient())


@pytest.fixture(scope="session")
def served_model(registry: Registry) -> str:
    """The name of a registered model whose version 1 has the alias."""
    name = f"price-{uuid4().hex[:8]}"
    registry.serve(name, registry.register(name))
    return name


# As a probe of Kubernetes has it: one late answer of a machine that is busy is no failure, three are.
in_time = retry(retry=retry_if_exception_type(requests.Timeout), stop=stop_after_attempt(3), reraise=True)


@dataclass
class Process:
    """A process of the streaming application, with its health page."""

    process: "subprocess.Popen[bytes]"
    port: int
    log_file: Path
    children: list[psutil.Process] = field(default_factory=list)

    @in_time
    def _get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=5)

    def health(self, check: str) -> tuple[int, str]:
        answer = self._get(f"/health/{check}")
        return answer.status_code, answer.text.strip()

    def await_model(self, version: str) -> None:
        self.await_page(lambda page: page.get("version") == version)

    def await_page(self, good: Callable[[dict[str, Any]], bool], seconds: float = PATIENCE) -> None:
        """Wait until /model says what it should."""
        deadline = time.monotonic() + seconds
        while not good(page := self.page()):
            assert time.monotonic() < deadline, f"{page} after {seconds} s:\n{self.log()}"
            time.sleep(0.05)

    def page(self) -> dict[str, Any]:
        page: dict[str, Any] = self._get("/model").json()
        return page

    def metrics(self) -> str:
        return self._get("/metrics").text

    def log(self) -> str:
        return self.log_file.read_text()

    def await_log(self, text: str, seconds: float = PATIENCE) -> None:
        """Wait until it has logged something."""
        deadline = time.monotonic() + seconds
        while text not in self.log():
            assert time.monotonic() < deadline, f"no {text!r} after {seconds} s:\n{self.log()}"
            time.sleep(0.1)

    def await_ready(self, seconds: float = PATIENCE) -> "Process":
        return self.await_health(lambda code, _: code == 200, seconds)

    def await_health(self, good: Callable[[int, str], bool], seconds: float = PATIENCE) -> "Process":
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log()}"
            try:
                if good(*self.health("ready")):
                    # The JVM. Those of its own are commands of a moment: Hadoop's file system calls chmod.
                    self.children = psutil.Process(self.process.pid).children()
                    return self
            except requests.ConnectionError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds} s:\n{self.log()}")

    def kill(self) -> None:
        """As the kernel does it: no farewell."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        """Stop Python and its JVM in mid-step, as a machine that is suspended does."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(30)


# The broker names a new partition's leader a moment before it is one.
once_it_is_led = retry(
    retry=retry_if_exception_type(KafkaException),
    wait=wait_fixed(0.1),
    stop=stop_after_delay(30),
    reraise=True,
)


class Room:
    """Topics, a folder and a port for processes that belong together."""

    def __init__(self, environment: dict[str, str], folder: Path, port: int, models: Path) -> None:
        mark = uuid4().hex[:8]
        # Copies of models are shared by all rooms: to fetch one a process imports MLflow, for seconds.
        (folder / "serving").mkdir()
        (folder / "serving" / "models").symlink_to(models)
        self.folder, self.port = folder, port
        self.requests, self.predictions = f"requests-{mark}", f"predictions-{mark}"
        self.live_metrics, self.takeovers = f"live-metrics-{mark}", f"takeovers-{mark}"
        self.promotions = f"promotions-{mark}"
        self.live_totals, self.dead_letters = f"live-totals-{mark}", f"dead-letters-{mark}"
        self.input_drift = f"input-drift-{mark}"
        self.environment = {
            **os.environ,
            **environment,
            "USEDCARS_HOME": str(folder),
            "USEDCARS_REQUESTS_TOPIC": self.requests,
            "USEDCARS_PREDICTIONS_TOPIC": self.predictions,
            "USEDCARS_LIVE_METRICS_TOPIC": self.live_metrics,
            "USEDCARS_LIVE_TOTALS_TOPIC": self.live_totals,
            "USEDCARS_DEAD_LETTERS_TOPIC": self.dead_letters,
            "USEDCARS_INPUT_DRIFT_TOPIC": self.input_drift,
            "USEDCARS_TAKEOVERS_TOPIC": self.takeovers,
            "USEDCARS_PROMOTIONS_TOPIC": self.promotions,
            **{f"USEDCARS_WARM_UP_{name}_TOPIC": f"warm-up-{name}-{mark}" for name in WARM_UP_TOPICS},
            "USEDCARS_SERVING_GROUP": f"serving-{mark}",
        }
        self.brokers = environment["USEDCARS_KAFKA_BOOTSTRAP_SERVERS"]
        self._started: list[Process] = []
        self._read_to: dict[int, int] = {}  # by partition of the answers

    def create_topics(self, requests: int = PARTITIONS, predictions: int = PARTITIONS) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.brokers)
        partitions = {
            self.requests: requests,
            self.predictions: predictions,
            self.live_metrics: 1,
            self.live_totals: 1,
            self.input_drift: 1,
            self.dead_letters: 1,
            self.takeovers: 1,
            self.promotions: 1,
            **{self.environment[f"USEDCARS_WARM_UP_{name}_TOPIC"]: requests for name in WARM_UP_TOPICS},
        }
        missing = set(partitions) - set(admin.list_topics())
        admin.create_topics([NewTopic(t, partitions[t], 1) for t in missing], wait_for_metadata=True)
        admin.close()
        with contextlib.closing(Consumer({"bootstrap.servers": self.brokers, "group.id": "tests"})) as reader:
            for topic in missing:
                for partition in range(partitions[topic]):
                    once_it_is_led(reader.get_watermark_offsets)(TopicPartition(topic, partition), timeout=5)

    def start(self, module: str, place: int = 0, **environment: str) -> Process:
        """Start a process; those that run at the same time have different places."""
        port = str(self.port + place)
        log_file = self.folder / f"{module}-{len(self._started)}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"streaming_app.{module}"],
                env={
                    **self.environment,
                    "USEDCARS_SERVING_PORT": port,
                    "USEDCARS_LIVE_METRICS_PORT": port,
                    **environment,
                },
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._started.append(Process(process, int(port), log_file))
        return self._started[-1]

    def end(self) -> None:
        for started in self._started:
            if started.process.poll() is None:
                started.thaw()
                started.kill()

    def send(self, *values: bytes | dict[str, Any], partition: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.brokers})
        for value in values:
            producer.produce(
                self.requests, value if isinstance(value, bytes) else json.dumps(value), partition=partition
            )
        producer.flush()

    @contextlib.contextmanager
    def load(self, rate: int) -> Iterator[list[str]]:
        """Send price requests at a rate (1/s) while the block lasts; yields the growing list of their ids."""
        sent: list[str] = []
        mark = uuid4().hex[:8]
        over = threading.Event()

        def run() -> None:
            # Idempotent: a repeated sending is no second request.
            producer = Producer(
                {
                    "bootstrap.servers": self.brokers,
                    "linger.ms": 0,
                    "enable.idempotence": True,
                    "log_level": 2,
                }
            )
            began = time.monotonic()
            while not over.is_set():
                while len(sent) < (time.monotonic() - began) * rate:
                    asked = {
                        "type": "price_request",
                        "request_id": f"{mark}-{len(sent)}",
                        "listing": {"year": 2000 + len(sent) % 20, "mileage": len(sent)},
                    }
                    producer.produce(self.requests, json.dumps(asked), key=asked["request_id"])
                    sent.append(str(asked["request_id"]))
                producer.poll(0)
                time.sleep(0.002)
            producer.flush()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield sent
        finally:
            over.set()
            thread.join()

    def answers(self, at_least: int, seconds: float = PATIENCE, quiet: float = 2) -> list[dict[str, Any]]:
        """All answers so far: waits for so many, and then until none has come for `quiet` seconds.

        Adds to each the time at which the broker has it (`logged_at`, seconds) and its output `partition`.
        """
        return self.read(self.predictions, at_least, seconds, quiet)

    def new_answers(self, at_least: int) -> list[dict[str, Any]]:
        """The answers since the last call."""
        found = self.read(self.predictions, at_least, starts=self._read_to)
        for answer in found:
            self._read_to[answer["partition"]] = answer["output_offset"] + 1
        return found

    def read(
        self,
        topic: str,
        at_least: int,
        seconds: float = PATIENCE,
        quiet: float = 2,
        starts: Mapping[int, int] | None = None,
    ) -> list[dict[str, Any]]:
        consumer = Consumer(
            {"bootstrap.servers": self.brokers, "group.id": "tests", "enable.auto.commit": False}
        )
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, (starts or {}).get(p, 0)) for p in partitions])
        found: list[dict[str, Any]] = []
        deadline, last = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < deadline and (len(found) < at_least or time.monotonic() - last < quiet):
            records = [record for record in consumer.consume(1_000, 0.2) if record.error() is None]
            for record in records:
                at = record.timestamp()[1] / 1000
                place = {"partition": record.partition(), "output_offset": record.offset()}
                found.append({**json.loads(record.value()), "logged_at": at, **place})
            if records:
                last = time.monotonic()
        consumer.close()
        assert len(found) >= at_least, f"{len(found)} of {at_least} records on {topic} after {seconds} s"
        return found


@pytest.fixture(scope="session")
def open_room(
    platform: Any, served_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., contextlib.AbstractContextManager[Room]]:
    """Makes a room in a folder, on the platform's broker if on no other; its processes are ended with it."""
    # Away from the ports of any platform's services (see PORTS_APART).
    places = cycle(range(50, 200, 5))
    models = tmp_path_factory.mktemp("models")

    @contextlib.contextmanager
    def open_room(folder: Path, brokers: str | None = None) -> Iterator[Room]:
        own = platform.environment["USEDCARS_KAFKA_BOOTSTRAP_SERVERS"]
        room = Room(
            {
                **platform.environment,
                "USEDCARS_KAFKA_BOOTSTRAP_SERVERS": brokers or own,
                "USEDCARS_REGISTERED_MODEL": served_model,
                "USEDCARS_LOG_FORMAT": "json",
            },
            folder,
            platform.settings.port("serving") + next(places),
            models,
        )
        room.create_topics()
        try:
            yield room
        finally:
            room.end()

    return open_room


@pytest.fixture
def room(open_room: Callable[[Path], Any], tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as room:
        yield room
