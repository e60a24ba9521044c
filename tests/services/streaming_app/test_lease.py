"""Who answers, of several processes, against real Kafka."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from streaming_app.lease import Lease, LeaseLostError
from streaming_app.settings import ServingSettings
from streaming_app.takeovers import Takeover, TakeoverLog

pytestmark = pytest.mark.services

SESSION_SECONDS = 3


@pytest.fixture
def settings(room: Any) -> ServingSettings:
    return ServingSettings(
        kafka_bootstrap_servers=room.brokers,
        takeovers_topic=room.takeovers,
        serving_group=room.environment["USEDCARS_SERVING_GROUP"],
        serving_session_seconds=SESSION_SECONDS,
    )


@pytest.fixture
def join(settings: ServingSettings) -> Iterator[Callable[[str], Lease]]:
    joined: list[Lease] = []

    def join(instance: str) -> Lease:
        lease = Lease(settings.model_copy(update={"serving_instance": instance}))
        lease.take_part()
        joined.append(lease)
        return lease

    yield join
    for lease in joined:
        lease.give_back()


def takeover(generation: int, instance: str = "first") -> Takeover:
    return Takeover(generation, instance, "price", "1", "2026-01-01T00:00:00.000Z", "topic", {0: 5}, {0: 7})


def await_holder(lease: Lease, seconds: float = 20) -> float:
    began = time.monotonic()
    while not lease.held():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def test_one_of_several_holds_the_lease_and_keeps_it_while_others_come_and_go(
    join: Callable[[str], Lease],
) -> None:
    first = join("first")
    await_holder(first)
    second, third = join("second"), join("third")
    watched_until = time.monotonic() + 3
    while time.monotonic() < watched_until:
        assert [lease.held() for lease in (first, second, third)] == [True, False, False]
        time.sleep(0.02)
    third.give_back()
    time.sleep(1)
    assert [first.held(), second.held()] == [True, False]


def test_who_leaves_is_succeeded_at_once(join: Callable[[str], Lease]) -> None:
    first = join("first")
    await_holder(first)
    second = join("second")
    time.sleep(2)
    assert not second.held()
    began = time.monotonic()
    first.give_back()
    await_holder(second)
    print(f"\nsucceeded {time.monotonic() - began:.2f} s after leaving")
    assert not first.held()


def test_a_member_that_missed_its_grant_joins_anew(join: Callable[[str], Lease]) -> None:
    lease = join("first")
    await_holder(lease)
    lease._lose()  # to Kafka it holds the lease as before
    assert not lease.held()
    await_holder(lease, 12 * SESSION_SECONDS)


def test_takeovers_are_put_down_in_order_and_read_back(
    join: Callable[[str], Lease], settings: ServingSettings
) -> None:
    with closing(TakeoverLog(settings)) as log:
        assert log.last() is None
        lease = join("first")
        await_holder(lease)
        lease.put_down(takeover(0))
        assert log.last() == takeover(0)
        lease.put_down(takeover(1))
        assert log.last() == takeover(1)
    with closing(TakeoverLog(settings)) as log:
        assert list(log.new()) == [takeover(0), takeover(1)]


def test_a_process_that_kafka_took_for_dead_cannot_put_itself_down(
    join: Callable[[str], Lease], settings: ServingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = join("frozen")
    await_holder(frozen)
    frozen.put_down(takeover(0, "frozen"))
    # What it knows stays what it was before: as in a process that wakes up and goes on in mid-step.
    held = frozen._held
    frozen.give_back()
    successor = join("successor")
    await_holder(successor)
    successor.put_down(takeover(1, "successor"))
    held.set()
    monkeypatch.setattr(frozen._ended, "wait", lambda seconds: held.clear())
    with pytest.raises(LeaseLostError):
        frozen.put_down(takeover(1, "frozen"))
    with closing(TakeoverLog(settings)) as log:
        assert log.last() == takeover(1, "successor")
