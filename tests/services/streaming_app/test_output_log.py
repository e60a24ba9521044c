"""Where serving resumes, against real Kafka."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.structs import TopicPartition

from streaming_app.output_log import OutputLog, TopicsError
from streaming_app.settings import ServingSettings
from streaming_app.takeovers import Takeover
from streaming_app.waiting import NotYetError

pytestmark = pytest.mark.services


@pytest.fixture
def output_log(room: Any) -> Iterator[OutputLog]:
    with closing(OutputLog(settings_of(room))) as output_log:
        yield output_log


@pytest.fixture
def admin(room: Any) -> Iterator[KafkaAdminClient]:
    with closing(KafkaAdminClient(bootstrap_servers=room.brokers)) as admin:
        yield admin


def settings_of(room: Any) -> ServingSettings:
    return ServingSettings(
        kafka_bootstrap_servers=room.brokers,
        requests_topic=room.requests,
        predictions_topic=room.predictions,
        serving_group=room.environment["USEDCARS_SERVING_GROUP"],
    )


def write(room: Any, topic: str, values: list[bytes], partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": room.brokers})
    for value in values:
        producer.produce(topic, value, partition=partition)
    producer.flush()


def answer(offset: int, partition: int = 0, kind: str = "price", generation: int | None = None) -> bytes:
    fields = {"type": kind, "source_partition": partition, "source_offset": offset}
    return json.dumps(fields if generation is None else {**fields, "generation": generation}).encode()


def takeover(topic_id: str, generation: int, next_offset: int, answers_from: int) -> Takeover:
    return Takeover(
        generation=generation,
        instance="the former",
        model="price",
        version="1",
        began_at="2026-01-01T00:00:00.000Z",
        topic_id=topic_id,
        next_offsets={0: next_offset},
        answers_from={0: answers_from},
    )


def test_without_answers_the_first_request_is_next(room: Any, output_log: OutputLog) -> None:
    write(room, room.requests, [b"?"] * 3)
    progress = output_log.resume(None)
    assert (progress.next_offsets, progress.end_offsets, progress.lag) == ({0: 0, 1: 0}, {0: 3, 1: 0}, 3)


def test_the_request_behind_the_last_answer_is_next(room: Any, output_log: OutputLog) -> None:
    write(room, room.requests, [b"?"] * 9)
    write(room, room.requests, [b"?"] * 9, partition=1)
    write(room, room.predictions, [answer(0), answer(2), answer(5, kind="rejection")])
    write(room, room.predictions, [answer(7, partition=1)], partition=1)
    assert output_log.resume(None).next_offsets == {0: 6, 1: 8}


@pytest.mark.parametrize("strays", [1, 99, 100, 5000])
def test_records_that_are_no_answers_are_stepped_over(room: Any, output_log: OutputLog, strays: int) -> None:
    write(room, room.requests, [b"?"] * 9)
    stray = [b"?", b"[]", b"{}", answer(8, partition=1), b'{"type": "price", "source_partition": 0}']
    write(room, room.predictions, [answer(3), *(stray * strays)[:strays]])
    assert output_log.resume(None).next_offsets[0] == 4


def test_what_a_frozen_process_wrote_behind_its_successor_does_not_move_the_resume(
    room: Any, output_log: OutputLog
) -> None:
    write(room, room.requests, [b"?"] * 9)
    answered = [answer(offset, generation=1) for offset in range(3)]
    woken_up = [answer(offset, generation=1) for offset in (3, 4, 5, 6, 7)]
    write(room, room.predictions, [*answered, answer(3, generation=2), answer(4, generation=2), *woken_up])
    topic_id = output_log.resume(None).topic_id
    assert output_log.resume(takeover(topic_id, 2, 3, 3)).next_offsets[0] == 5
    assert output_log.progress(takeover(topic_id, 2, 3, 3)).generation == 2


def test_a_takeover_without_an_answer_yet_says_itself_where_it_began(
    room: Any, output_log: OutputLog
) -> None:
    write(room, room.requests, [b"?"] * 9)
    write(room, room.predictions, [answer(0, generation=1), answer(1, generation=1)])
    topic_id = output_log.resume(None).topic_id
    assert output_log.resume(takeover(topic_id, 2, 2, 2)).next_offsets[0] == 2
    write(room, room.predictions, [answer(8, generation=1)])
    assert output_log.resume(takeover(topic_id, 2, 2, 2)).next_offsets[0] == 2


def test_a_takeover_of_an_earlier_topic_does_not_count(room: Any, output_log: OutputLog) -> None:
    write(room, room.requests, [b"?"] * 9)
    assert output_log.resume(takeover("another-topic", 2, 7, 0)).next_offsets[0] == 0


def test_the_committed_floor_holds_when_retention_has_emptied_the_answers(
    room: Any, output_log: OutputLog, admin: KafkaAdminClient
) -> None:
    write(room, room.requests, [b"?"] * 9)
    write(room, room.predictions, [answer(n) for n in range(5)])
    output_log.commit_floor(output_log.resume(None))
    admin.delete_records({TopicPartition(room.predictions, 0): 5})
    with closing(OutputLog(settings_of(room))) as later:
        assert later.resume(None).next_offsets[0] == 5


def test_requests_that_retention_has_deleted_are_stepped_over(
    room: Any, output_log: OutputLog, admin: KafkaAdminClient
) -> None:
    write(room, room.requests, [b"?"] * 9)
    admin.delete_records({TopicPartition(room.requests, 0): 4})
    assert output_log.resume(None).next_offsets[0] == 4


def test_a_requests_topic_made_anew_is_answered_from_its_beginning(
    room: Any, output_log: OutputLog, admin: KafkaAdminClient
) -> None:
    write(room, room.requests, [b"?"] * 9)
    write(room, room.predictions, [answer(n) for n in range(9)])
    assert output_log.resume(None).next_offsets[0] == 9
    admin.delete_topics([room.requests])
    while room.requests in admin.list_topics():
        pass
    admin.create_topics([NewTopic(room.requests, 2, 1)], wait_for_metadata=True)
    write(room, room.requests, [b"?"] * 4)
    with closing(OutputLog(settings_of(room))) as later:
        assert later.resume(None).next_offsets[0] == 0
        later.commit_floor(later.progress(None))
        assert later.progress(None).next_offsets[0] == 0, (
            "answers to the earlier topic do not count later either"
        )
        write(room, room.predictions, [answer(0), answer(1)])
        assert later.progress(None).next_offsets[0] == 2


def test_answers_ahead_of_all_requests_are_not_given_again(room: Any, output_log: OutputLog) -> None:
    write(room, room.requests, [b"?"] * 3)
    write(room, room.predictions, [answer(7)])
    assert output_log.resume(None).next_offsets[0] == 3


def test_fewer_answer_partitions_than_request_partitions_are_refused(room: Any) -> None:
    room.requests, room.predictions, room.live_metrics = (
        "wide-" + room.requests,
        "narrow-" + room.requests,
        "x-" + room.requests,
    )
    room.create_topics(requests=3, predictions=2)
    with closing(OutputLog(settings_of(room))) as output_log, pytest.raises(TopicsError, match="at least 3"):
        output_log.resume(None)


def test_a_missing_topic_is_waited_for(room: Any) -> None:
    room.predictions = "nowhere"
    with closing(OutputLog(settings_of(room))) as output_log, pytest.raises(NotYetError, match="nowhere"):
        output_log.partitions()
