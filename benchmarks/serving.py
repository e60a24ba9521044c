"""Serving beside its peers, with the model in service, on a platform that is up and has one (`make demo`).

    python benchmarks/serving.py [--only serving ...] [--steady 500] [--seconds 60] [--beside "make demo"]

Each is asked alone, over topics of its own, with raw listings of the platform's generator: at a steady rate,
and then at higher and higher rates for as long as the 99th percentile stays below a second. A latency is the
time from when a request was due to having its answer; over Kafka, a process of its own sends. `mlflow models
serve` is asked over HTTP, by as many clients as there are requests in flight, 64 at most. What is to run
`--beside` each is started once its steady rate is measured, and that is measured again until it has ended.

`--only platform` asks the platform's own serving process, over the platform's topics, at the steady rate:
live metrics follow, and a rollout beside it is its own.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self
from uuid import uuid4

import psutil
from asked_listings import asked_listings
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from local_platform.settings import PlatformSettings
from simulation.generation import generate_listings
from streaming_app.model_registry import find_version
from streaming_app.settings import ServingSettings

PARTITIONS = 2
RATES = (1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000)
HTTP_RATES = (5, 10, 20, 50, 100, 200)
SECONDS_A_RATE = 15.0
# At three times the steady rate: the JVM compiles what has run some ten thousand times.
WARM_UP_SECONDS = 30.0
LONGEST_P99 = 1.0
# Of more, who asks and who reads the answers does so in pieces of 5 ms, which are in the latencies: else the
# two, and the broker for them, take an eighth of the cores more.
MANY = 2_000  # a second
PATIENCE = 240.0
PEERS = Path(__file__).parent / "peers"
REQUEST_LOAD = str(Path(__file__).with_name("request_load.py"))
HTTP_PORT = 18_099


@dataclass(frozen=True)
class Measured:
    """Latencies in seconds, in order; `asked` counts the requests that should have been answered."""

    rate: float
    asked: int
    latencies: list[float]

    def quantile(self, share: float) -> float:
        return self.latencies[int(share * (len(self.latencies) - 1))] if self.latencies else float("inf")

    def holds(self) -> bool:
        return len(self.latencies) == self.asked and self.quantile(0.99) < LONGEST_P99

    def __str__(self) -> str:
        """How many were answered, and how soon."""
        p50, p99, longest = (1000 * self.quantile(share) for share in (0.5, 0.99, 1))
        return (
            f"{len(self.latencies):,} of {self.asked:,}, p50 {p50:.1f}, p99 {p99:.1f}, max {longest:.0f} ms"
        )


Ask = Callable[[float, float], Measured]


@dataclass(frozen=True)
class Topics:
    """Asks over a requests topic and reads the answers."""

    brokers: str
    listings: Path
    requests: str
    predictions: str
    takeovers: str

    @classmethod
    @contextmanager
    def new(cls, brokers: str, listings: Path) -> Iterator[Self]:
        """Topics of its own, deleted with the block: they are gigabytes."""
        mark = uuid4().hex[:8]
        made = cls(
            brokers, listings, *(f"bench-{what}-{mark}" for what in ("requests", "predictions", "takeovers"))
        )
        partitions = {made.requests: PARTITIONS, made.predictions: PARTITIONS, made.takeovers: 1}
        admin = AdminClient({"bootstrap.servers": brokers})
        for creation in admin.create_topics([NewTopic(t, n, 1) for t, n in partitions.items()]).values():
            creation.result()
        try:
            yield made
        finally:
            for deletion in admin.delete_topics(list(partitions)).values():
                deletion.result()

    @classmethod
    def of_platform(cls, settings: ServingSettings, listings: Path) -> Self:
        """Those over which the platform is asked."""
        return cls(
            settings.kafka_bootstrap_servers,
            listings,
            settings.requests_topic,
            settings.predictions_topic,
            settings.takeovers_topic,
        )

    def of_serving(self, port: int, home: Path) -> dict[str, str]:
        """The settings of a serving process that answers here."""
        return {
            "USEDCARS_REQUESTS_TOPIC": self.requests,
            "USEDCARS_PREDICTIONS_TOPIC": self.predictions,
            "USEDCARS_TAKEOVERS_TOPIC": self.takeovers,
            "USEDCARS_SERVING_GROUP": self.requests,
            "USEDCARS_SERVING_PORT": str(port),
            "USEDCARS_HOME": str(home),
        }

    def new_answers(self, rate: float = 0) -> Consumer:
        """Reads the answers that come from now on, of many a second some milliseconds' together."""
        consumer = Consumer(
            {
                **{"bootstrap.servers": self.brokers, "group.id": "benchmark", "enable.auto.commit": False},
                **{"fetch.wait.max.ms": 5, "queued.min.messages": 1_000_000},
                "fetch.min.bytes": 1 if rate <= MANY else 100_000,
            }
        )
        partitions = [TopicPartition(self.predictions, p) for p in range(PARTITIONS)]
        ends = [consumer.get_watermark_offsets(p, timeout=10)[1] for p in partitions]
        consumer.assign(
            [TopicPartition(p.topic, p.partition, e) for p, e in zip(partitions, ends, strict=True)]
        )
        return consumer

    def ask(self, rate: float, seconds: float) -> Measured:
        """Requests at an even rate."""
        consumer = self.new_answers(rate)
        mark, total = uuid4().hex[:8], int(rate * seconds)
        own = mark.encode()
        latencies: list[float] = []
        answered, deadline = 0, time.monotonic() + seconds + 20
        # What comes later is too late, but must not queue before the next requests.
        end = deadline + min(2 * seconds, 60)
        what = (self.brokers, self.requests, PARTITIONS, self.listings, mark, rate, total)
        sender = subprocess.Popen(
            [sys.executable, REQUEST_LOAD, *map(str, what), *(["--together"] if rate > MANY else [])]
        )
        try:
            while answered < total and time.monotonic() < end:
                if sender.poll():
                    raise SystemExit(f"{REQUEST_LOAD} ended with {sender.returncode}: see above why")
                # Not consume(2_000, 0.02), which waits that long for so many.
                if (first := consumer.poll(0.02)) is None:
                    continue
                records = [first, *consumer.consume(2_000, 0)]
                at, in_time = time.monotonic_ns(), time.monotonic() < deadline
                for record in records:
                    asker, _, due = (record.key() or b"").partition(b"-")
                    if asker != own:
                        continue
                    answered += 1
                    if in_time:
                        latencies.append((at - int(due)) / 1e9)
        finally:
            sender.kill()  # it has ended, or is far behind
            sender.wait()
            consumer.close()
        return Measured(rate, total, sorted(latencies))


def over_http(listings: list[str]) -> Ask:
    url = f"http://127.0.0.1:{HTTP_PORT}/invocations"

    def price(number: int, due: float) -> float:
        body = json.dumps({"dataframe_records": [{"listing": listings[number % len(listings)]}]}).encode()
        asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
            answer.read()
        return time.perf_counter() - due

    def ask(rate: float, seconds: float) -> Measured:
        total, began = int(rate * seconds), time.perf_counter()
        with ThreadPoolExecutor(64) as clients:
            pending = []
            for number in range(total):
                due = began + number / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                pending.append(clients.submit(price, number, due))
            in_time, late = wait(pending, began + seconds + 20 - time.perf_counter())
            for answer in late:  # those in flight are awaited, and not counted
                answer.cancel()
            return Measured(rate, total, sorted(answer.result() for answer in in_time))

    return ask


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """A process and its children, ended with the block."""
    with log.open("wb") as output:
        started = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    process = psutil.Process(started.pid)
    try:
        yield process
    finally:
        for ended in [*process.children(recursive=True), process]:
            ended.kill()
        started.wait()


def serving_process(settings: ServingSettings) -> psutil.Process:
    """The process that serves the platform."""
    for connection in psutil.net_connections("tcp"):
        is_its = connection.laddr and connection.laddr.port == settings.serving_port
        if is_its and connection.status == psutil.CONN_LISTEN and connection.pid:
            return psutil.Process(connection.pid)
    raise SystemExit("the platform does not serve: bring it up with `make up`")


def await_answers(ask: Ask, process: psutil.Process, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            break
        try:
            if ask(1, 1).latencies:
                return
        except (OSError, KafkaException):  # also while Kafka is still making the topics
            time.sleep(1)
    raise SystemExit(f"it does not answer; the end of its log:\n{log.read_text()[-3000:]}")


def memory(process: psutil.Process) -> float:
    """MiB of a process and its children."""
    return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 2**20


def beside(command: str, ask: Ask, steady: float) -> Measured:
    """The steady rate for as long as the command runs."""
    latencies: list[float] = []
    asked = 0
    with tempfile.TemporaryFile() as output:
        running = subprocess.Popen(shlex.split(command), stdout=output, stderr=subprocess.STDOUT)
        while running.poll() is None:
            found = ask(steady, SECONDS_A_RATE)
            print(f"    {time.strftime('%H:%M:%S')} {found}", flush=True)
            latencies += found.latencies
            asked += found.asked
        if running.returncode:
            output.seek(0)
            raise SystemExit(f"{command} fails:\n{output.read().decode()[-3000:]}")
    return Measured(steady, asked, sorted(latencies))


def steadily(name: str, found: Measured, highest: str, held: str) -> list[str]:
    """A row of the table."""
    return [
        name,
        f"{found.rate:g}/s",
        f"{found.quantile(0.5) * 1000:.1f}",
        f"{found.quantile(0.99) * 1000:.1f}",
        f"{found.quantile(1) * 1000:.0f}",
        f"{len(found.latencies):,} of {found.asked:,}",
        highest,
        held,
    ]


def measure(
    name: str,
    ask: Ask,
    process: psutil.Process,
    steady: float,
    seconds: float,
    rates: tuple[int, ...],
    command: str | None,
) -> Iterator[list[str]]:
    """The rows of the table."""
    ask(3 * steady, WARM_UP_SECONDS)
    before = memory(process)
    at_rest = ask(steady, seconds)
    held = memory(process)
    print(f"  {name}: {steady:g}/s, {at_rest}, MiB before {before:,.0f}, after {held:,.0f}", flush=True)
    beside_it = command and beside(command, ask, steady)
    if beside_it:
        print(f"  {name} beside {command}: {steady:g}/s, {beside_it}", flush=True)
    best: Measured | None = None
    for rate in (rate for rate in rates if rate > steady):
        ask(rate, 5)
        found = ask(rate, SECONDS_A_RATE)
        if not found.holds():  # once more: the platform beside it has its own bursts of work
            found = ask(rate, SECONDS_A_RATE)
        print(f"  {name}: {rate}/s, {found}", flush=True)
        if not found.holds():
            break
        best = found
    if not rates:
        highest = ""
    elif best or at_rest.holds():
        highest = f"{best.rate if best else steady:,.0f}/s"
    else:
        highest = f"below {min(r for r in rates if r > steady):,}/s"
    yield steadily(name, at_rest, highest, f"{before:,.0f}, {held:,.0f}")
    if beside_it:
        yield steadily(f"{name} beside {command}", beside_it, "", "")


def main() -> None:
    """Measure what is asked for and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("serving", "micro-batches", "lean consumer", "mlflow models serve")
    every = (*names, "platform")
    parser.add_argument("--only", nargs="+", choices=every, default=names, help="whom to measure")
    parser.add_argument("--steady", type=float, default=500, help="requests a second")
    parser.add_argument("--steady-http", type=float, default=5, help="the same for mlflow models serve")
    parser.add_argument("--seconds", type=float, default=60, help="how long the steady rate is measured")
    parser.add_argument("--beside", metavar="COMMAND", help="what runs beside the steady rate, once more")
    given = parser.parse_args()
    platform = PlatformSettings()
    environment = {**os.environ, **platform.service_environment()}
    os.environ.update(platform.service_environment())
    settings = ServingSettings()
    version = find_version(settings)
    table = Table(title=f"version {version} of {settings.registered_model}, {os.cpu_count()} cores")
    for column in (
        "peer",
        "steady",
        "p50 ms",
        "p99 ms",
        "max ms",
        "answered",
        "kept with p99 < 1 s",
        "MiB before, after",
    ):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory(prefix="uc-") as name:
        folder = Path(name)
        raw = folder / "raw.csv"
        for _ in generate_listings(raw, 20_000, seed=9):
            pass
        listings = asked_listings(raw, 2_000)
        asked = folder / "asked.json"
        asked.write_text(json.dumps(listings))
        print(f"listings of {sum(map(len, listings)) / len(listings):.0f} characters on average")
        ports = count(18_081)
        for peer in given.only:
            if peer == "platform":
                process, ask = serving_process(settings), Topics.of_platform(settings, asked).ask
                for row in measure(peer, ask, process, given.steady, given.seconds, (), given.beside):
                    table.add_row(*row)
                Console(width=140).print(table)
                continue
            log = folder / "peer.log"
            port = next(ports)
            command = {
                "serving": [sys.executable, "-m", "streaming_app.serving"],
                "micro-batches": [sys.executable, str(PEERS / "micro_batches.py")],
                "lean consumer": [sys.executable, str(PEERS / "lean_consumer.py"), str(raw)],
                "mlflow models serve": [
                    *(sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"),
                    *("--model-uri", f"models:/{settings.registered_model}/{version}"),
                    *("--port", str(HTTP_PORT)),
                ],
            }[peer]
            is_http = peer == "mlflow models serve"
            steady, rates = (given.steady_http, HTTP_RATES) if is_http else (given.steady, RATES)
            with ExitStack() as ended:
                topics = ended.enter_context(Topics.new(settings.kafka_bootstrap_servers, asked))
                ask = over_http(listings) if is_http else topics.ask
                own = environment | topics.of_serving(port, folder / f"home-{port}")
                own["MLFLOW_TRACKING_URI"] = settings.mlflow_tracking_uri
                own["PYTHONPATH"] = str(Path(__file__).parent.parent)
                # Where `mlflow models serve` looks for uvicorn.
                own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
                process = ended.enter_context(running(command, own, log))
                await_answers(ask, process, log)
                for row in measure(peer, ask, process, steady, given.seconds, rates, given.beside):
                    table.add_row(*row)
            Console(width=140).print(table)  # also of those before, should the next one fail


if __name__ == "__main__":
    main()
