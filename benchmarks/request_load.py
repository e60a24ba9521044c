"""Price requests at an even rate, from a process of its own.

    python benchmarks/request_load.py BROKERS TOPIC PARTITIONS LISTINGS.json MARK RATE TOTAL [--together]

In the process that reads the answers, the two would wait for each other: Python runs one thread at a time.
The id of a request tells when it was due (ns of the monotonic clock, which all processes share), so that a
sender that falls behind its rate shows as latency. Together, those of some milliseconds are sent at once,
which takes two thirds of the processor time, here and of the broker.
"""

import json
import sys
import time
from pathlib import Path

from confluent_kafka import Producer

TOGETHER = 0.005  # seconds


def send(
    brokers: str,
    topic: str,
    partitions: int,
    listings: list[bytes],
    mark: str,
    rate: float,
    total: int,
    together: float,
) -> None:
    """Sends so many; their ids are the mark, a dash and the time at which they were due.

    together: for how many seconds requests may wait for others.
    """
    producer = Producer(
        {
            **{"bootstrap.servers": brokers, "linger.ms": together * 1000},
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.list_topics(topic, timeout=10)
    began, sent, pause = time.monotonic_ns(), 0, together / 2 or 0.0005
    while sent < total:
        due = min(int((time.monotonic_ns() - began) * rate / 1e9) + 1, total)
        for number in range(sent, due):
            request_id = b"%s-%d" % (mark.encode(), began + number / rate * 1e9)
            listing = listings[number % len(listings)]
            message = b'{"type":"price_request","request_id":"%s","listing":%s}' % (request_id, listing)
            producer.produce(topic, message, partition=number % partitions)
        sent = due
        producer.poll(0)
        time.sleep(pause)
    producer.flush()


if __name__ == "__main__":
    brokers, topic, partitions, listings, mark, rate, total = sys.argv[1:8]
    together = TOGETHER if sys.argv[8:] == ["--together"] else 0.0
    texts = [text.encode() for text in json.loads(Path(listings).read_text())]
    send(brokers, topic, int(partitions), texts, mark, float(rate), int(total), together)
