"""The promotion ledger: what became of each version, and which process answered with it.

The topic of promotions tells of registrations, rollouts and rollbacks, the topic of takeovers of the rest.
"""

import json
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from confluent_kafka import TopicPartition

from streaming_app.records import TIMEOUT, connect, read_records, topic_partitions
from streaming_app.settings import KafkaSettings
from streaming_app.takeovers import Takeover, TakeoverLog

_READ_SECONDS = 20.0


def read_ledger(settings: KafkaSettings, last: int) -> list[dict[str, Any]]:
    """The last entries, the oldest first, with the same fields each.

    at (ISO 8601, UTC), kind (registration, rollout, rollback, takeover), outcome (done, begun, answered,
    undone), model, version, former (the version before), reason, seconds (until the version answered), run_id
    (Dagster's; the process of a takeover), evidence (numbers).
    Raises NotYetError when a topic is missing or not delivered, KafkaException when Kafka is away.
    """
    with closing(TakeoverLog(settings)) as log:
        takeovers = [_takeover(takeover) for takeover in log.new()]
    found = sorted([*takeovers, *_promotions(settings)], key=lambda entry: str(entry["at"]))
    return found[-last:]


def _takeover(takeover: Takeover) -> dict[str, Any]:
    return {
        "kind": "takeover",
        "outcome": "done",
        "model": takeover.model,
        "version": takeover.version,
        "former": None,
        "reason": f"generation {takeover.generation}",
        "seconds": None,
        "run_id": takeover.instance,
        "evidence": {},
        "at": takeover.began_at,
    }


def _promotions(settings: KafkaSettings) -> Iterable[dict[str, Any]]:
    topic = settings.promotions_topic
    consumer = connect(settings, "usedcars-ledger", topic, "read_committed")
    with closing(consumer):
        topic_partitions(consumer, topic)
        partition = TopicPartition(topic, 0)
        begin, end = consumer.get_watermark_offsets(partition, TIMEOUT)
        for record in read_records(consumer, partition, begin, end, _READ_SECONDS):
            try:
                entry = json.loads(record.value() or b"")
            except (ValueError, TypeError):  # not the platform's
                continue
            if isinstance(entry, dict) and "at" in entry:
                yield entry
