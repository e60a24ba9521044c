"""Price requests to the platform and its answers, over Kafka."""

import csv
import json
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import structlog
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from simulation.errors import SimulationError
from simulation.listing_format import PRICE_COLUMNS
from simulation.settings import SimulationSettings

_LONGEST_POLL: Final = 0.1  # seconds
_log = structlog.get_logger(__name__)


@dataclass
class Question:
    """A price request: the listing sent, its true price in dollars, and what came back."""

    request_id: str
    listing: dict[str, str | None]
    true_price: float | None
    sent: float | None = None  # seconds since the epoch
    answer: dict[str, Any] | None = None
    answered: float | None = None
    answers: int = 0

    @property
    def latency(self) -> float | None:
        """Seconds from sending to reading the answer."""
        return None if self.answered is None or self.sent is None else self.answered - self.sent


@dataclass
class Conversation:
    """Everything asked in one go, and how many messages Kafka did not take."""

    questions: list[Question]
    undelivered: list[str] = field(default_factory=list)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def read_questions(path: Path, limit: int) -> list[Question]:
    """The first listings of a raw file, without their prices, as requests with ids of their own."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    run = uuid.uuid4().hex[:12]
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(file)
        if not rows.fieldnames or "vin" not in rows.fieldnames:
            raise SimulationError(
                f"{path} is no file of raw listings (no column vin): generate one, or split one."
            )
        questions = [
            Question(
                request_id=f"{run}-{number}",
                # What a longer row holds beyond the header comes under the key None.
                listing={k: v or None for k, v in row.items() if k is not None and k not in PRICE_COLUMNS},
                true_price=_number(row.get("price")),
            )
            for number, row in enumerate(islice(rows, limit))
        ]
    if not questions:
        raise SimulationError(f"{path} holds no listings: generate some.")
    return questions


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def _kafka_errors_told(settings: SimulationSettings) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise SimulationError(
            f"Kafka does not answer at {settings.kafka_bootstrap_servers} ({type(error).__name__}): start it "
            "(usedcars-platform up kafka), or set USEDCARS_KAFKA_BOOTSTRAP_SERVERS to where it runs."
        ) from error


def _answers_from_now_on(settings: SimulationSettings) -> KafkaConsumer:
    """A consumer at the present end of every partition of the answers; it belongs to no group."""
    limit = int(settings.connection_timeout * 1000)
    consumer = KafkaConsumer(
        **settings.kafka_access(),
        group_id=None,
        enable_auto_commit=False,
        allow_auto_create_topics=False,
        bootstrap_timeout_ms=limit,
    )
    numbers = consumer.partitions_for_topic(settings.predictions_topic)
    if not numbers:
        consumer.close()
        raise SimulationError(
            f"Kafka has no topic {settings.predictions_topic}: create it (usedcars-platform up kafka), "
            "or set USEDCARS_PREDICTIONS_TOPIC."
        )
    partitions = [TopicPartition(settings.predictions_topic, number) for number in sorted(numbers)]
    consumer.assign(partitions)
    for partition, offset in consumer.end_offsets(partitions).items():
        consumer.seek(partition, offset)
    return consumer


class _Sender:
    """Sends messages in order, keeps what Kafka did not take."""

    def __init__(self, settings: SimulationSettings, conversation: Conversation) -> None:
        self._topic = settings.requests_topic
        self._undelivered = conversation.undelivered
        self._producer = KafkaProducer(
            **settings.kafka_access(),
            enable_idempotence=True,
            acks="all",
            bootstrap_timeout_ms=int(settings.connection_timeout * 1000),
            max_block_ms=int(settings.connection_timeout * 1000),
        )

    def send(self, message: dict[str, Any]) -> None:
        request_id = message["request_id"]
        future = self._producer.send(
            self._topic, key=request_id.encode(), value=json.dumps(message, ensure_ascii=False).encode()
        )
        future.add_errback(lambda error: self._undelivered.append(f"{request_id}: {error}"))

    def close(self, seconds: float) -> None:
        self._producer.close(timeout=seconds)


def _read_answers(consumer: KafkaConsumer, questions: dict[str, Question], seconds: float) -> None:
    for records in consumer.poll(timeout_ms=max(int(seconds * 1000), 0)).values():
        read = time.time()
        for record in records:
            question = questions.get((record.key or b"").decode("utf-8", "replace"))
            if question is None:
                continue
            question.answers += 1
            if question.answers == 1:
                question.answer = {**json.loads(record.value), "partition": record.partition}
                question.answered = read


def _schedule(
    questions: Sequence[Question], price_delay: float | None, rate: float
) -> list[tuple[float, Question, bool]]:
    """What to send in which second from the start: (second, question, whether it is the true price)."""
    requests = [(number / rate, question, False) for number, question in enumerate(questions)]
    prices = [
        (second + price_delay, question, True)
        for second, question, _ in requests
        if price_delay is not None and question.true_price is not None
    ]
    return sorted(requests + prices, key=lambda event: event[0])


def _message(question: Question, is_price: bool) -> dict[str, Any]:
    now = time.time()
    if is_price:
        return {
            "type": "price_set",
            "request_id": question.request_id,
            "price": question.true_price,
            "set_at": _moment(now),
        }
    question.sent = now
    return {
        "type": "price_request",
        "request_id": question.request_id,
        "listing": question.listing,
        "requested_at": _moment(now),
    }


def ask(
    questions: list[Question],
    settings: SimulationSettings,
    *,
    rate: float,
    price_delay: float | None,
    timeout: float,
) -> Conversation:
    """Send requests at `rate` a second, `price_delay` seconds after each its true price; read the answers.

    Waits up to `timeout` seconds after the last message for answers still due. No delay: no prices are sent.
    """
    conversation = Conversation(questions)
    by_id = {question.request_id: question for question in questions}
    with _kafka_errors_told(settings):
        consumer = _answers_from_now_on(settings)
        try:
            sender = _Sender(settings, conversation)
            try:
                start = time.monotonic()
                for second, question, is_price in _schedule(questions, price_delay, rate):
                    _read_answers(consumer, by_id, 0)
                    while (left := start + second - time.monotonic()) > 0:
                        _read_answers(consumer, by_id, min(left, _LONGEST_POLL))
                    sender.send(_message(question, is_price))
                end = time.monotonic() + timeout
                while time.monotonic() < end and any(question.answer is None for question in questions):
                    _read_answers(consumer, by_id, _LONGEST_POLL)
            finally:
                sender.close(settings.connection_timeout)
        finally:
            consumer.close()
    if conversation.undelivered:
        _log.error(
            "Kafka took no message", count=len(conversation.undelivered), first=conversation.undelivered[0]
        )
    return conversation
