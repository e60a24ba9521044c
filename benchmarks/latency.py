"""How long an answer takes, from sending the request to having the answer, against a serving that runs.

    python benchmarks/latency.py [--rate 200] [--seconds 60] [--warm-up 20] [--listing LISTING.json]

Kafka and topics are those of the environment (USEDCARS_KAFKA_BOOTSTRAP_SERVERS, ...), as for the client.
"""

import argparse
import json
import threading
import time
import uuid
from itertools import pairwise
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from streaming_app.settings import KafkaSettings

# About 1 kB, the fields that prices hang on.
LISTING = {
    "make_name": "Honda",
    "model_name": "Civic",
    "trim_name": "LX Sedan",
    "year": 2017,
    "mileage": 41_250.0,
    "horsepower": 158.0,
    "body_type": "Sedan",
    "city": "Houston",
    "latitude": 29.76,
    "longitude": -95.37,
    "engine_displacement": 2000.0,
    "fuel_tank_volume": "12.4 gal",
    "wheelbase": "106.3 in",
    "power": "158 hp @ 6,500 RPM",
    "major_options": "['Backup Camera', 'Bluetooth', 'Alloy Wheels']",
    "description": "One owner, full history. " * 20,
}


def ask(
    settings: KafkaSettings, mark: str, rate: int, seconds: float, listing: object, sent: list[float]
) -> None:
    """Send requests at an even rate; `sent` gets the time of each."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "linger.ms": 0})
    began = time.perf_counter()
    while len(sent) < rate * seconds:
        due = began + len(sent) / rate
        if (early := due - time.perf_counter()) > 0:
            producer.poll(0)
            time.sleep(min(early, 0.001))
            continue
        request_id = f"{mark}-{len(sent)}"
        message = {"type": "price_request", "request_id": request_id, "listing": listing}
        sent.append(time.perf_counter())
        producer.produce(settings.requests_topic, json.dumps(message), key=request_id)
    producer.flush()


def measure(rate: int, seconds: float, warm_up: float, listing: object) -> None:
    """Print the quantiles of the latency behind the warm-up, and the longest silence between two answers."""
    settings = KafkaSettings()
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": "benchmark",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 5,
        }
    )
    partitions = consumer.list_topics(settings.predictions_topic, timeout=10).topics[
        settings.predictions_topic
    ]
    consumer.assign(
        [
            TopicPartition(
                settings.predictions_topic,
                p,
                consumer.get_watermark_offsets(TopicPartition(settings.predictions_topic, p))[1],
            )
            for p in partitions.partitions
        ]
    )
    mark, total = uuid.uuid4().hex[:8], int(rate * (seconds + warm_up))
    sent: list[float] = []
    arrived: dict[int, float] = {}
    doubled = 0
    asker = threading.Thread(target=ask, args=(settings, mark, rate, seconds + warm_up, listing, sent))
    asker.start()
    deadline = time.perf_counter() + seconds + warm_up + 60
    while len(arrived) < total and time.perf_counter() < deadline:
        record = consumer.poll(0.1)
        if record is None or record.error() is not None:
            continue
        at = time.perf_counter()
        name, _, number = str(json.loads(record.value())["request_id"]).partition("-")
        if name == mark:
            doubled += int(number) in arrived
            arrived.setdefault(int(number), at)
    asker.join()
    consumer.close()
    first = int(rate * warm_up)
    latencies = sorted(at - sent[n] for n, at in arrived.items() if n >= first)
    times = sorted(at for n, at in arrived.items() if n >= first)
    print(f"{total} requests at {rate}/s, {len(arrived)} answered, {doubled} twice")
    if latencies:
        p50, p99 = (latencies[int(q * (len(latencies) - 1))] * 1000 for q in (0.5, 0.99))
        silence = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
        print(
            f"behind the first {warm_up:g} s: p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
            f"max {latencies[-1] * 1000:.0f} ms, longest silence {silence * 1000:.0f} ms"
        )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60, help="how long to measure")
    parser.add_argument("--warm-up", type=float, default=20, help="seconds of requests before that")
    parser.add_argument("--listing", type=Path, help="a JSON file with the listing to ask for")
    given = parser.parse_args()
    listing = json.loads(given.listing.read_text()) if given.listing else LISTING
    measure(given.rate, given.seconds, given.warm_up, listing)


if __name__ == "__main__":
    main()
