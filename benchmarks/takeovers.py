"""How long answers pause while versions take over from each other, with the model in service.

    python benchmarks/takeovers.py [--rate 300] [--takeovers 4]

On a platform that has a model (`make demo`) and whose Kafka and MLflow are up. Two versions of a
registered model of its own, `usedcars-price-takeovers`, both the model in service, take over in turn in a
serving process with topics of its own. A silence is the longest time between two answers in the log, by
their generation.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import requests
from asked_listings import asked_listings
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from rich.console import Console
from rich.table import Table
from serving import PARTITIONS, REQUEST_LOAD, Topics, await_answers, running

from local_platform.settings import PlatformSettings
from simulation.generation import generate_listings
from streaming_app.model_registry import find_version
from streaming_app.settings import ServingSettings

NAME = "usedcars-price-takeovers"
PORT = 18_081
WARM_UP_RATE, WARM_UP_SECONDS = 1_000, 60.0
SECONDS_BETWEEN = 10.0
MOST_SECONDS = 120.0
MARK = "takeovers"


def two_versions(client: MlflowClient, settings: ServingSettings) -> list[str]:
    """Of the model in service, under a name of their own; the first has the alias."""
    served = client.get_model_version(settings.registered_model, find_version(settings))
    with suppress(MlflowException):  # it is there from a former run
        client.create_registered_model(NAME)
    versions = [
        client.create_model_version(NAME, str(served.source), served.run_id).version for _ in range(2)
    ]
    client.set_registered_model_alias(NAME, settings.serving_alias, versions[0])
    return versions


def take_turns(client: MlflowClient, alias: str, versions: list[str], takeovers: int) -> None:
    for number in range(takeovers):
        time.sleep(SECONDS_BETWEEN)
        version = versions[(number + 1) % 2]
        client.set_registered_model_alias(NAME, alias, version)
        deadline = time.monotonic() + MOST_SECONDS
        while requests.get(f"http://127.0.0.1:{PORT}/model", timeout=10).json().get("version") != version:
            if time.monotonic() > deadline:
                raise SystemExit(f"version {version} does not answer: see serving's log")
            time.sleep(0.1)


def answers(topics: Topics, until: threading.Thread) -> Iterator[tuple[float, dict[str, int]]]:
    """The time of each answer in the log, and the answer, until the thread has ended."""
    consumer = topics.new_answers()
    while until.is_alive():
        for record in consumer.consume(1_000, 0.1):
            yield record.timestamp()[1] / 1000, json.loads(record.value() or b"")
    consumer.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=300, help="requests a second")
    parser.add_argument("--takeovers", type=int, default=4)
    given = parser.parse_args()
    platform = PlatformSettings()
    os.environ.update(platform.service_environment())
    settings = ServingSettings()
    client = MlflowClient(settings.mlflow_tracking_uri)
    versions = two_versions(client, settings)
    with tempfile.TemporaryDirectory(prefix="uc-") as name:
        folder = Path(name)
        raw, asked, log = folder / "raw.csv", folder / "asked.json", folder / "serving.log"
        for _ in generate_listings(raw, 2_000, seed=9):
            pass
        asked.write_text(json.dumps(asked_listings(raw, 2_000)))
        with ExitStack() as ended:
            topics = ended.enter_context(Topics.new(settings.kafka_bootstrap_servers, asked))
            environment = (
                os.environ
                | topics.of_serving(PORT, folder / "home")
                | {"USEDCARS_REGISTERED_MODEL": NAME, "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri}
            )
            serving = [sys.executable, "-m", "streaming_app.serving"]
            process = ended.enter_context(running(serving, environment, log))
            await_answers(topics.ask, process, log)
            topics.ask(WARM_UP_RATE, WARM_UP_SECONDS)
            seconds = given.takeovers * (SECONDS_BETWEEN + MOST_SECONDS)
            what = (topics.brokers, topics.requests, PARTITIONS, asked, MARK, given.rate)
            load = [sys.executable, REQUEST_LOAD, *map(str, what), str(int(given.rate * seconds))]
            silences: dict[int, float] = {}
            given_to: Counter[tuple[int, int]] = Counter()
            turns = threading.Thread(
                target=take_turns, args=(client, settings.serving_alias, versions, given.takeovers)
            )
            sender = subprocess.Popen(load)
            try:
                turns.start()
                last: float | None = None
                for at, answer in answers(topics, turns):
                    generation = answer["generation"]
                    silences[generation] = max(silences.get(generation, 0.0), at - (last or at))
                    given_to[answer["source_partition"], answer["source_offset"]] += 1
                    last = max(at, last or at)
            finally:
                sender.kill()
                sender.wait()
    table = Table(title=f"{len(given_to):,} requests, {sum(given_to.values()):,} answers", min_width=40)
    table.add_column("generation", justify="right")
    table.add_column("longest silence, s", justify="right")
    for generation, silence in sorted(silences.items()):
        table.add_row(str(generation), f"{silence:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
