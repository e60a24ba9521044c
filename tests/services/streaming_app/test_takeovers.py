"""Two processes, of which one answers: versions, stops, kills and freezes under load, each request once.

To start one is dear: each test goes on with those that the one before has left.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from local_platform.supervisor import Supervisor
from streaming_app.generation_rule import GenerationRule

pytestmark = pytest.mark.services

RATE = 300
PATIENCE = 120.0


class Pair:
    """A room with an active and a standby process; who has ended is started anew."""

    def __init__(self, room: Any, registry: Any) -> None:
        self.room, self.registry = room, registry
        self.model = f"price-{uuid4().hex[:8]}"
        self.processes: dict[int, Any] = {}

    def alone(self) -> Any:
        """One that is active, without a standby."""
        if not self._running():
            self.processes[0] = self._start(0)
        if len(self._running()) == 2:
            self.by_role()[1].terminate()
        (process,) = self._running()
        process.await_page(lambda page: page["role"] == "active")
        return process

    def complete(self, **environment: str) -> None:
        """Start what does not run, and wait until both are ready."""
        for place in (0, 1):
            if self.processes.get(place) not in self._running():
                self.processes[place] = self._start(place, **environment)
        for process in self.processes.values():
            process.await_ready()

    def _start(self, place: int, **environment: str) -> Any:
        return self.room.start("serving", place, USEDCARS_REGISTERED_MODEL=self.model, **environment)

    def _running(self) -> list[Any]:
        return [process for process in self.processes.values() if process.process.poll() is None]

    def by_role(self) -> tuple[Any, Any]:
        """The active and the standby, as soon as one of them is active."""
        deadline = time.monotonic() + PATIENCE
        while True:
            roles = {process.page()["role"]: process for process in self.processes.values()}
            if set(roles) == {"active", "standby"}:
                return roles["active"], roles["standby"]
            assert time.monotonic() < deadline, f"the roles are {set(roles)}:\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        return "\n".join(process.log()[-4000:] for process in self.processes.values())


@pytest.fixture(scope="module")
def pair(open_room: Any, registry: Any) -> Iterator[Pair]:
    with TemporaryDirectory(prefix="uc-") as folder, open_room(Path(folder)) as room:
        pair = Pair(room, registry)
        registry.serve(pair.model, registry.register(pair.model))
        yield pair


def by_source(answers: Iterable[dict[str, Any]]) -> Counter[tuple[int, int]]:
    return Counter((a["source_partition"], a["source_offset"]) for a in answers)


def longest_silence(answers: Iterable[dict[str, Any]]) -> float:
    times = sorted(a["logged_at"] for a in answers)
    return max(later - earlier for earlier, later in pairwise(times))


def in_the_order_of_the_log(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(answers, key=lambda answer: (answer["partition"], answer["output_offset"]))


def assert_each_answered_once_in_order(answers: list[dict[str, Any]], sent: list[str]) -> None:
    assert len(answers) == len(sent)
    assert max(by_source(answers).values()) == 1
    assert {a["request_id"] for a in answers} == set(sent)
    for partition in {a["partition"] for a in answers}:
        offsets = [a["source_offset"] for a in answers if a["partition"] == partition]
        assert offsets == sorted(offsets)
    assert all(a["partition"] == a["source_partition"] for a in answers)


def samples(text: str) -> dict[tuple[str, str], float]:
    """The samples of a metrics page, by name and the values of their labels."""
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def await_samples(process: Any, wanted: dict[tuple[str, str], float], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not wanted.items() <= (found := samples(process.metrics())).items():
        assert time.monotonic() < deadline, f"not within {seconds} s: {wanted}\n{process.metrics()}"
        time.sleep(0.2)
    return found


def test_the_active_process_tells_its_answers_rejections_latency_lag_and_version_and_the_standby_its_role(
    pair: Pair,
) -> None:
    pair.complete()
    active, standby = pair.by_role()
    version = active.page()["version"]
    listing = {"year": 2012, "mileage": 30_000}
    asked = [{"type": "price_request", "request_id": f"r{n}", "listing": listing} for n in range(7)]
    nameless = [{"type": "price_request", "request_id": f"n{n}", "listing": {}} for n in range(2)]
    pair.room.send(*asked, *nameless, b"?", {"type": "price_set", "request_id": "r0", "price": 9_000})
    pair.room.new_answers(at_least=10)
    found = await_samples(
        active,
        {
            ("usedcars_serving_answers_read_total", ""): 10,
            ("usedcars_serving_answers_unread_total", ""): 0,
            ("usedcars_serving_rejections_total", "missing_year"): 2,
            ("usedcars_serving_rejections_total", "not_json"): 1,
            ("usedcars_serving_latency_seconds_count", ""): 10,
            ("usedcars_serving_latency_seconds_bucket", "+Inf"): 10,
            ("usedcars_serving_active", ""): 1,
            ("usedcars_serving_standby", ""): 0,
            ("usedcars_serving_model", f"active {version}"): 1,
            ("usedcars_requests_messages_total", ""): 11,
            ("usedcars_predictions_messages_total", ""): 10,
            ("usedcars_serving_lag_messages", ""): 1,  # the set price behind the last answer
        },
    )
    assert 0 < found["usedcars_serving_latency_seconds_sum", ""] < 10 * 30
    await_samples(
        standby,
        {
            ("usedcars_serving_active", ""): 0,
            ("usedcars_serving_standby", ""): 1,
            ("usedcars_serving_model", f"standby {version}"): 1,
            ("usedcars_serving_answers_read_total", ""): 0,
        },
    )


def test_versions_take_over_from_each_other_and_no_request_is_lost_or_answered_twice(pair: Pair) -> None:
    versions = [pair.registry.register(pair.model) for _ in range(3)]
    pair.complete()
    active, standby = pair.by_role()
    with pair.room.load(RATE) as sent:
        for version in versions:
            time.sleep(2)
            pair.registry.serve(pair.model, version)
            active.await_model(version)
        time.sleep(1)
    answers = pair.room.new_answers(at_least=len(sent))
    print(f"\n3 takeovers: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)
    in_order = sorted(answers, key=lambda answer: float(answer["logged_at"]))
    assert list(dict.fromkeys(answer["model_version"] for answer in in_order))[-3:] == versions
    assert active.page()["role"] == "active"
    standby.await_model(versions[-1])
    assert active.log().count('"waited": true') == len(versions), "each was started before the former ended"
    for process in (active, standby):
        assert process.log().count('"known_code": true') == len(versions)


def test_a_version_of_other_code_takes_over_once_it_has_rehearsed(pair: Pair) -> None:
    pair.complete()
    active, standby = pair.by_role()
    version = pair.registry.register_other(pair.model, pair.registry.pipeline(price="abs(raw_price) + 100D"))
    with pair.room.load(RATE) as sent:
        pair.registry.serve(pair.model, version)
        active.await_model(version)
        time.sleep(1)
    answers = pair.room.new_answers(at_least=len(sent))
    print(f"\ntakeover of other code: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)
    standby.await_model(version)
    for process in (active, standby):
        assert f'{{"version": "{version}", "rounds": 1' in process.log()
        assert process.log().count('"known_code": false') == 1


def test_a_broken_successor_is_refused_with_its_reason_and_the_version_in_service_answers_on(
    pair: Pair,
) -> None:
    pair.complete()
    active, _ = pair.by_role()
    good = active.page()["version"]
    broken = pair.registry.register_other(pair.model, pair.registry.pipeline(price="CAST('NaN' AS DOUBLE)"))
    pair.registry.serve(pair.model, broken)
    active.await_page(lambda page: "no price for its own input example" in page["refused"].get(broken, ""))
    assert active.health("ready") == (200, "ok")
    with pair.room.load(RATE) as sent:
        time.sleep(0.5)
    answers = pair.room.new_answers(at_least=len(sent))
    assert {answer["model_version"] for answer in answers} == {good}
    pair.registry.serve(pair.model, good)


def test_a_killed_standby_is_not_noticed(pair: Pair) -> None:
    pair.complete()
    active, standby = pair.by_role()
    with pair.room.load(RATE) as sent:
        time.sleep(1)
        standby.kill()
        time.sleep(6)
    answers = pair.room.new_answers(at_least=len(sent))
    print(f"\nstandby killed: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)
    assert len({answer["generation"] for answer in answers}) == 1
    assert active.page()["role"] == "active"


def test_a_stopped_process_hands_over_to_the_standby_also_with_mlflow_away(pair: Pair) -> None:
    pair.alone()
    pair.complete(USEDCARS_MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    active, standby = pair.by_role()
    with pair.room.load(RATE) as sent:
        time.sleep(2)
        assert active.terminate() == 0
        standby.await_page(lambda page: page["role"] == "active")
        time.sleep(1)
    answers = pair.room.new_answers(at_least=len(sent))
    print(f"\nhand-over: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)
    assert len({answer["generation"] for answer in answers}) == 2


def test_a_standby_that_hangs_when_it_is_called_ends_with_its_jvm_and_the_next_takes_over(pair: Pair) -> None:
    pair.complete(USEDCARS_SERVING_DUTY_SECONDS="6")  # for a new one: the former test has stopped one
    active, standby = pair.by_role()
    with pair.room.load(RATE) as sent:
        time.sleep(1)
        (jvm,) = (child for child in standby.children if child.name() == "java")
        jvm.suspend()
        active.kill()
        assert standby.process.wait(60) == 1
        assert "has not answered for 6 s" in standby.log()
        assert not psutil.wait_procs([jvm], timeout=10)[1]
        pair.complete()
        pair.by_role()
    answers = pair.room.new_answers(at_least=len(sent))
    assert_each_answered_once_in_order(answers, sent)


def test_kill_9_of_the_active_python_or_its_jvm_is_over_in_seconds_and_loses_nothing(
    pair: Pair, pytestconfig: pytest.Config
) -> None:
    kills = pytestconfig.getoption("--kills")
    pair.complete()
    chance = random.Random(7)
    with pair.room.load(RATE) as sent:
        for number in range(kills):
            active, standby = pair.by_role()
            time.sleep(chance.uniform(1, 3))
            if number % 2:
                active.kill()
            else:
                for child in active.children:
                    child.kill()
                assert active.process.wait(30) == 1, "without its JVM it ends, to be started anew"
                assert '"failed"' in active.log()
            standby.await_page(lambda page: page["role"] == "active")
            assert not psutil.wait_procs(active.children, timeout=30)[1], "no JVM outlives its Python"
            if number + 1 < kills:
                pair.complete()
        time.sleep(1)
    answers = pair.room.new_answers(at_least=len(sent))
    print(f"\n{kills} x kill -9: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)


def test_a_frozen_process_that_wakes_up_after_its_successor_answered_is_told_by_its_generation(
    pair: Pair,
) -> None:
    pair.complete()
    active, standby = pair.by_role()
    with pair.room.load(RATE) as sent:
        time.sleep(2)
        active.freeze()
        standby.await_page(lambda page: page["role"] == "active")
        time.sleep(2)
        active.thaw()
        active.await_page(lambda page: page["role"] == "standby")
        time.sleep(2)
        standby.kill()  # what the frozen one has written meanwhile must not mislead its next start
        active.await_page(lambda page: page["role"] == "active")
        time.sleep(1)
    answers = pair.room.new_answers(at_least=len(sent))
    rule = GenerationRule()
    counting = [answer for answer in in_the_order_of_the_log(answers) if rule.counts(answer)]
    print(
        f"\nfrozen and woken up: {len(sent)} requests, {len(answers) - len(counting)} stray answers, "
        f"longest silence {longest_silence(answers):.2f} s"
    )
    assert_each_answered_once_in_order(counting, sent)


def test_kill_9_of_the_broker_loses_no_request_and_answers_none_twice(pair: Pair, platform: Any) -> None:
    pair.complete()
    with pair.room.load(RATE) as sent:
        time.sleep(2)
        broker = Supervisor(platform.settings).states()["kafka"]
        os.kill(broker.pid, signal.SIGKILL)  # Supervisor starts it anew
        time.sleep(10)
        for process in pair.processes.values():
            process.await_ready()
        pair.by_role()
    answers = pair.room.new_answers(at_least=len(sent))
    print(f"\nbroker killed: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)
    assert {process.page()["role"] for process in pair.processes.values()} == {"active", "standby"}


def test_kafka_away_for_longer_than_the_session_loses_no_request_and_answers_none_twice(
    pair: Pair, platform: Any
) -> None:
    pair.complete()
    with pair.room.load(RATE) as sent:
        time.sleep(2)
        with platform.without("kafka"):
            time.sleep(20)
        pair.by_role()
        time.sleep(1)
    answers = pair.room.new_answers(at_least=len(sent))
    print(f"\nKafka away for 20 s: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)


def test_mlflow_and_hdfs_away_are_not_noticed_and_the_standby_still_takes_over(
    pair: Pair, platform: Any
) -> None:
    pair.complete()
    active, standby = pair.by_role()
    with pair.room.load(RATE) as sent, platform.without("mlflow"), platform.without("namenode"):
        time.sleep(5)
        active.kill()
        standby.await_page(lambda page: page["role"] == "active")
        time.sleep(1)
    answers = pair.room.new_answers(at_least=len(sent))
    print(f"\nMLflow, HDFS away: {len(sent)} requests, longest silence {longest_silence(answers):.2f} s")
    assert_each_answered_once_in_order(answers, sent)
