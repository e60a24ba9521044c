"""The predictions topic as the commit log: where to resume is read from the last answers.

Answers are written in order to the partition of their request, so what is written is always a prefix of what
was asked, and the last answer of a partition tells the first request without one. Only answers of the last
generation tell: a process that was frozen and woke up may have written behind its successor's answers.
"""

import json
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import structlog
import tenacity
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from streaming_app.kafka_access import for_librdkafka
from streaming_app.records import TIMEOUT, connect, read_records
from streaming_app.settings import ServingSettings
from streaming_app.takeovers import NO_GENERATION, Takeover
from streaming_app.waiting import NotYetError

log = structlog.get_logger()

# How many records at the end of a partition are searched for an answer, in growing steps.
_STEPS_BACK = (1, 100, 10_000)


def _passes(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in (
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    )


class TopicsError(Exception):
    """The topics can't be served as they are; the text says what to change."""


@dataclass(frozen=True)
class Progress:
    """How far the answers have come, by partition of the requests topic."""

    next_offsets: Mapping[int, int]  # the first request without an answer
    end_offsets: Mapping[int, int]  # behind the last request
    answers: int  # ever written to the predictions topic
    answer_ends: Mapping[int, int]  # behind the last record of the predictions topic
    topic_id: str  # of the requests topic
    generation: int  # the highest of the last answers

    @property
    def lag(self) -> int:
        """Messages behind the last answer: those still to answer, and set prices, which get none."""
        return sum(max(0, end - self.next_offsets.get(p, 0)) for p, end in self.end_offsets.items())


@dataclass(frozen=True)
class _Floor:
    """What the consumer group keeps of a partition: the committed offset, and the rest as its metadata.

    It is kept at the predictions topic, because Kafka forgets what was committed for a deleted topic.
    """

    answers_from: int  # offset in the predictions topic below which answers belong to an earlier topic
    topic_id: str  # of the requests topic
    next_offset: int  # the request to resume from at least


@dataclass(frozen=True)
class _Answered:
    source_offset: int
    generation: int


class OutputLog:
    """Reads the progress of serving from the predictions topic. Not safe for use by several threads."""

    def __init__(self, settings: ServingSettings) -> None:
        self._requests = settings.requests_topic
        self._predictions = settings.predictions_topic
        self._known: list[int] = []
        self._consumer = connect(settings, "usedcars-serving-log", settings.serving_group, "read_uncommitted")
        self._refused: KafkaError | None = None
        options: dict[str, Any] = {
            **for_librdkafka(settings),
            "client.id": "usedcars-serving-log",
            "error_cb": self._take_error,
            "log_level": 2,
        }
        self._admin = AdminClient(options)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def partitions(self) -> list[int]:
        """List the partitions of the requests topic.

        Raises NotYetError while a topic does not exist, TopicsError when the predictions topic has fewer
        partitions than the requests topic.
        """
        names = [self._requests, self._predictions]
        self._refused = None
        described = self._admin.describe_topics(TopicCollection(names), request_timeout=TIMEOUT)
        try:
            requests, predictions = (_described(name, described[name]) for name in names)
        except KafkaException as error:
            self._admin.poll(0)  # a refused login is told only as an event; the call itself runs out of time
            if self._refused is not None:
                raise KafkaException(self._refused) from error
            raise
        asked, answered = len(requests.partitions), len(predictions.partitions)
        if answered < asked:
            raise TopicsError(
                f"{self._predictions} has {answered} partitions and {self._requests} {asked}: an answer goes "
                f"to the partition of its request, so give {self._predictions} at least {asked} partitions"
            )
        identity: Any = requests.topic_id  # whose stubs lack the bits
        high = identity.get_most_significant_bits() % 2**64
        low = identity.get_least_significant_bits() % 2**64
        self._topic_id = str(UUID(int=high << 64 | low))
        partitions = sorted(partition.id for partition in requests.partitions)
        if partitions != self._known:
            for name in names:  # else it knows for minutes no partition that was added
                self._consumer.list_topics(name, TIMEOUT)
            self._known = partitions
        return partitions

    def _take_error(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._refused = error

    def resume(self, former: Takeover | None) -> Progress:
        """Find where to resume behind the `former` takeover, and take note of the requests topic's identity.

        A requests topic that was deleted and made anew is told by its id, kept in the consumer group: it is
        answered from its beginning, and answers to its predecessor no longer count. To be called by the
        active process before it starts to answer.
        """
        for p in self.partitions():
            floor = self._floor(p)
            if floor is None:
                self._commit(p, _Floor(0, self._topic_id, 0))
            elif floor.topic_id != self._topic_id:
                log.warning("requests_topic_made_anew", topic=self._requests, partition=p)
                answered = TopicPartition(self._predictions, p)
                self._commit(p, _Floor(self._end(answered), self._topic_id, 0))
        return self.progress(former)

    def progress(self, last: Takeover | None) -> Progress:
        """Find the first request without an answer in each partition, and the end of the requests.

        `last` is the last takeover. Where it has given no answer yet, it says where it began; where that is
        unknown, or retention has emptied the log, the offset last committed to the group is the floor, else
        the beginning.
        """
        next_offsets, end_offsets, answer_ends = {}, {}, {}
        generation = NO_GENERATION
        for p in self.partitions():
            asked, answered = TopicPartition(self._requests, p), TopicPartition(self._predictions, p)
            floor = self._floor(p) or _Floor(0, self._topic_id, 0)
            # In this order: what is answered was asked before.
            answers_begin, answer_ends[p] = self._consumer.get_watermark_offsets(answered, TIMEOUT)
            begin, end_offsets[p] = self._consumer.get_watermark_offsets(asked, TIMEOUT)
            known = [begin, floor.next_offset]
            if last is None or last.topic_id != self._topic_id:
                answers_begin = max(answers_begin, floor.answers_from)
                found = self._last_answered(answered, answers_begin, answer_ends[p], NO_GENERATION)
            else:
                answers_begin = max(answers_begin, floor.answers_from, last.answers_from.get(p, 0))
                found = self._last_answered(answered, answers_begin, answer_ends[p], last.generation)
                known.append(last.next_offsets.get(p, 0))
            if found is not None:
                generation = max(generation, found.generation)
                known.append(found.source_offset + 1)
            next_offsets[p] = max(known)
            if next_offsets[p] > end_offsets[p]:
                # The requests lost their end, for example with a broker's disk: nothing there is unanswered.
                log.warning("answers_ahead_of_requests", topic=self._requests, partition=p)
                next_offsets[p] = end_offsets[p]
        return Progress(
            next_offsets, end_offsets, sum(answer_ends.values()), answer_ends, self._topic_id, generation
        )

    def commit_floor(self, progress: Progress) -> None:
        """Keep the progress in the consumer group, for when retention has emptied the predictions topic."""
        for p, next_offset in progress.next_offsets.items():
            floor = self._floor(p)
            if floor is not None and floor.next_offset < next_offset:
                self._commit(p, replace(floor, next_offset=next_offset))

    def _end(self, partition: TopicPartition) -> int:
        return self._consumer.get_watermark_offsets(partition, TIMEOUT)[1]

    # A broker that has just started does not know yet who coordinates the group.
    @tenacity.retry(
        retry=tenacity.retry_if_exception(_passes),
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(TIMEOUT),
        reraise=True,
    )
    def _floor(self, partition: int) -> _Floor | None:
        (kept,) = self._consumer.committed([TopicPartition(self._predictions, partition)], TIMEOUT)
        if kept.error is not None:
            raise KafkaException(kept.error)
        topic_id, is_one, next_offset = (kept.metadata or "").partition(" ")
        if kept.offset < 0 or not is_one:
            return None
        return _Floor(kept.offset, topic_id, int(next_offset))

    def _commit(self, partition: int, floor: _Floor) -> None:
        metadata = f"{floor.topic_id} {floor.next_offset}"
        kept = TopicPartition(self._predictions, partition, floor.answers_from, metadata)
        self._consumer.commit(offsets=[kept], asynchronous=False)

    def _last_answered(
        self, partition: TopicPartition, first: int, end: int, generation: int
    ) -> _Answered | None:
        """The last answer of at least this generation between two offsets of a partition, None without."""
        upper = end
        for step in _STEPS_BACK:
            lower = max(first, end - step)
            found = None
            for record in read_records(self._consumer, partition, lower, upper):
                answered = _answered(record.value(), partition)
                if answered is not None and answered.generation >= generation:
                    found = answered
            if found is not None or lower == first:
                return found
            upper = lower
        log.warning("no_answer_among_the_last_records", topic=partition.topic, searched=_STEPS_BACK[-1])
        return None


def _described(topic: str, description: Future[Any]) -> Any:  # a TopicDescription
    try:
        return description.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise NotYetError(f"Kafka has no topic {topic} yet") from error
        raise


def _answered(value: bytes | None, partition: TopicPartition) -> _Answered | None:
    """What a record says was answered; None when it is no answer to the partition's requests."""
    try:
        answer = json.loads(value or b"")
        if answer["type"] in ("price", "rejection") and answer["source_partition"] == partition.partition:
            return _Answered(int(answer["source_offset"]), int(answer.get("generation", NO_GENERATION)))
    except (ValueError, TypeError, KeyError):
        pass
    return None
