"""The promotion ledger: which version was registered, rolled out or rolled back, when, how it went and why.

Its records lie in the topic of promotions, for good. Takeovers are in a topic of their own, which serving
writes; whoever lists the ledger reads both.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from usedcars_assets.resources.topics import Topics
from usedcars_assets.rollout.records import read_records

Kind = Literal["registration", "rollout", "rollback", "takeover"]
Outcome = Literal["done", "begun", "answered", "undone"]
_WRITE_SECONDS = 10.0


@dataclass(frozen=True)
class Entry:
    """A record of the ledger.

    A registration and a takeover are `done`. A rollout and a rollback have `begun`, and then `answered` (the
    version was seen to answer after `seconds`) or were `undone` for the reason.
    """

    kind: Kind
    outcome: Outcome
    model: str
    version: str
    former: str | None = None  # the version that had the alias before
    reason: str = ""
    seconds: float | None = None
    run_id: str = ""  # Dagster's; of a takeover the name of the process
    evidence: Mapping[str, float] = field(default_factory=dict)
    at: str = field(default_factory=lambda: now())  # ISO 8601, UTC

    @property
    def milliseconds(self) -> int:
        """Its time since the epoch."""
        return int(datetime.fromisoformat(self.at).timestamp() * 1000)


def now() -> str:
    """The time, as the ledger tells it."""
    return _instant(datetime.now(UTC))


def write_entry(topics: Topics, entry: Entry) -> str | None:
    """Writes a record; None, or why that was not possible.

    It does not raise: what the ledger misses undoes no rollout, MLflow's tag of the version still tells it.
    """
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    try:
        producer = KafkaProducer(**topics.access(), acks="all", max_block_ms=int(_WRITE_SECONDS * 1000))
        try:
            value = json.dumps(asdict(entry)).encode()
            producer.send(topics.promotions, key=entry.version.encode(), value=value).get(_WRITE_SECONDS)
        finally:
            producer.close(timeout=5)
    except KafkaError as error:
        return (
            f"The ledger does not tell of this {entry.kind} ({entry.outcome}): Kafka did not take the record "
            f"on {topics.promotions} ({type(error).__name__})."
        )
    return None


def read_promotions(topics: Topics) -> list[Entry]:
    """What was written with write_entry, the oldest first."""
    return entries(read_records(topics, topics.promotions).values)


def entries(values: Iterable[bytes]) -> list[Entry]:
    """The entries of the records of either topic; what is none is left out."""
    return [entry for value in values if (entry := _entry(value)) is not None]


def _entry(value: bytes) -> Entry | None:
    try:
        fields: dict[str, Any] = json.loads(value)
        if "generation" not in fields:
            return Entry(**fields)
        return Entry(
            kind="takeover",
            outcome="done",
            model=fields["model"],
            version=fields["version"],
            reason=f"generation {fields['generation']}",
            run_id=fields["instance"],
            at=_instant(datetime.fromisoformat(fields["began_at"])),
        )
    except (ValueError, TypeError, KeyError):
        return None


def _instant(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
