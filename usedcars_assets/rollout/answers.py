"""Asks serving for a price and watches which version answers."""

import json
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.ledger import now

PROBE = "probe-"
_PROBE_EVERY_SECONDS = 2.0
_POLL_SECONDS = 0.2


class NoAnswerError(Exception):
    """The version did not answer as it should; the message says why."""


class Answers:
    """All answers from now on; a context manager."""

    def __init__(self, topics: Topics) -> None:
        from kafka import KafkaConsumer, KafkaProducer, TopicPartition

        self._topics = topics
        self._consumer = KafkaConsumer(**topics.access(), enable_auto_commit=False)
        try:
            self._producer = KafkaProducer(**topics.access(), acks="all")
        except BaseException:
            self._consumer.close()
            raise
        numbers = self._consumer.partitions_for_topic(topics.predictions) or {0}
        partitions = [TopicPartition(topics.predictions, number) for number in sorted(numbers)]
        self._consumer.assign(partitions)
        for partition, offset in self._consumer.end_offsets(partitions).items():
            self._consumer.seek(partition, offset)  # explicit: "latest" would be resolved late

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections."""
        self._consumer.close()
        self._producer.close(timeout=5)

    def wait_for(
        self, version: str, listing: str, seconds: float, why_not: Callable[[str], str | None]
    ) -> float:
        """Sends probes with this listing until one is answered with a price of the version.

        Returns the seconds that took. Raises NoAnswerError after `seconds`, when the version rejects the
        listing, or when `why_not` knows why it will not answer.
        """
        started = time.monotonic()
        last_probe = float("-inf")
        others: set[str] = set()
        while (waited := time.monotonic() - started) < seconds:
            if waited - last_probe > _PROBE_EVERY_SECONDS:
                last_probe = waited
                self._send_probe(listing)
                if reason := why_not(version):
                    raise NoAnswerError(reason)
            for answer in self._poll():
                found = str(answer.get("model_version"))
                if not str(answer.get("request_id")).startswith(PROBE):
                    continue
                if found != version:
                    others.add(found)
                elif answer.get("type") == "price" and isinstance(answer.get("price"), int | float):
                    return time.monotonic() - started
                else:
                    raise NoAnswerError(
                        f"it rejects the listing that it was registered with ({answer.get('reason')})"
                    )
        seen = f"only version {', '.join(sorted(others))} answered" if others else "nothing answered"
        raise NoAnswerError(f"{seen} within {seconds:.0f} s")

    def _send_probe(self, listing: str) -> None:
        request_id = f"{PROBE}{uuid.uuid4().hex}"
        message = {
            "type": "price_request",
            "request_id": request_id,
            "listing": json.loads(listing),
            "requested_at": now(),
        }
        self._producer.send(
            self._topics.requests, key=request_id.encode(), value=json.dumps(message).encode()
        ).get(timeout=30)

    def _poll(self) -> list[dict[str, Any]]:
        records = self._consumer.poll(timeout_ms=int(_POLL_SECONDS * 1000))
        found = []
        for record in (record for records_of in records.values() for record in records_of):
            try:
                answer = json.loads(record.value)
            except (ValueError, TypeError):  # not ours
                continue
            if isinstance(answer, dict):
                found.append(answer)
        return found
