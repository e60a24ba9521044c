"""A client of the platform: ask for a price, await the answer, set the eventual price.

    with PriceClient(KafkaSettings()) as client:
        answer = client.price({"make_name": "Honda", "year": 2017, ...})
        client.set_price(answer["request_id"], 15_900.0)

An answer is a dictionary: `type` is `price` (with `price`, `price_low` and `price_high` in USD: the true
price lies between the last two in nine of ten cases; null when the model tells none) or `rejection` (with
`reason` and `field`); both carry request_id, model_version, generation, source_partition and source_offset,
requested_at (what the request says), received_at (the time of its Kafka record) and answered_at.
What a serving process that was frozen wrote behind its successor's answers is left out.
"""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from streaming_app.generation_rule import GenerationRule
from streaming_app.instants import instant
from streaming_app.kafka_access import for_kafka_python
from streaming_app.settings import KafkaSettings

Answer = dict[str, Any]


class NoAnswerError(Exception):
    """No answer came in time; the text says to what and what to look at."""


class PriceClient:
    """Sends requests and set prices, and reads the answers from the moment of its creation on.

    Not safe for use by several threads. Raises kafka.errors.KafkaError when Kafka does not answer.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._rule = GenerationRule()
        self._producer = KafkaProducer(**for_kafka_python(settings), acks="all", enable_idempotence=True)
        self._consumer = KafkaConsumer(
            **for_kafka_python(settings), enable_auto_commit=False, fetch_max_wait_ms=50
        )
        partitions = self._consumer.partitions_for_topic(settings.predictions_topic)
        if not partitions:
            self.close()
            raise NoAnswerError(
                f"Kafka at {settings.kafka_bootstrap_servers} has no topic {settings.predictions_topic}: "
                "start the platform, or name its topic in USEDCARS_PREDICTIONS_TOPIC"
            )
        assigned = [TopicPartition(settings.predictions_topic, p) for p in sorted(partitions)]
        self._consumer.assign(assigned)
        for partition, end in self._consumer.end_offsets(assigned).items():
            self._consumer.seek(partition, end)

    def __enter__(self) -> "PriceClient":
        """Enter a block at whose end the client is closed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Leave Kafka; what was sent is sent."""
        self._producer.close()
        self._consumer.close()

    def ask(self, listing: Mapping[str, Any], request_id: str | None = None) -> str:
        """Send a price request for a raw listing, return its request_id once Kafka has it."""
        request_id = request_id or str(uuid.uuid4())
        self._send(
            request_id,
            {
                "type": "price_request",
                "request_id": request_id,
                "listing": dict(listing),
                "requested_at": _now(),
            },
        )
        return request_id

    def set_price(self, request_id: str, price: float) -> None:
        """Set the eventual price (USD) of what was asked for as `request_id`."""
        self._send(
            request_id,
            {"type": "price_set", "request_id": request_id, "price": price, "set_at": _now()},
        )

    def answers(self, seconds: float) -> Iterator[Answer]:
        """Yield the answers to everybody's requests as they come, for some seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for records in self._consumer.poll(timeout_ms=max(1, min(200, int(left * 1000)))).values():
                for record in records:
                    try:
                        answer = json.loads(record.value)
                    except (ValueError, TypeError):
                        continue
                    if isinstance(answer, dict) and self._rule.counts(answer):
                        yield answer

    def await_answer(self, request_id: str, seconds: float = 30.0) -> Answer:
        """Wait for the answer to a request. Raises NoAnswerError when none comes in time."""
        for answer in self.answers(seconds):
            if answer.get("request_id") == request_id:
                return answer
        raise NoAnswerError(
            f"no answer to {request_id} on {self._settings.predictions_topic} within {seconds:g} s: "
            "look whether serving is ready (its /health/ready says why not)"
        )

    def price(self, listing: Mapping[str, Any], seconds: float = 30.0) -> Answer:
        """Ask for the price of a raw listing and wait for the answer."""
        return self.await_answer(self.ask(listing), seconds)

    def _send(self, request_id: str, message: Mapping[str, Any]) -> None:
        self._producer.send(
            self._settings.requests_topic, key=request_id.encode(), value=json.dumps(message).encode()
        ).get(timeout=30)


def live_metrics(settings: KafkaSettings) -> Iterator[dict[str, Any]]:
    """Yield the live metrics as they are published, for ever."""
    consumer = KafkaConsumer(
        settings.live_metrics_topic,
        **for_kafka_python(settings),
        enable_auto_commit=False,
        auto_offset_reset="latest",
    )
    try:
        for record in consumer:
            yield json.loads(record.value)
    finally:
        consumer.close()


def _now() -> str:
    return instant(datetime.now(UTC))
