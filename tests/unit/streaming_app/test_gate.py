"""The gate before a query: closed, open, and given up."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import pytest
from pyspark.sql import DataFrame, SparkSession

from streaming_app.gate import Gate


@pytest.fixture
def requests(spark: SparkSession) -> DataFrame:
    """Offsets 0 to 9 of the partitions 0 and 1."""
    return spark.range(20).selectExpr("CAST(id % 2 AS INT) AS partition", "id DIV 2 AS offset")


def passed(requests: DataFrame) -> list[tuple[int, int]]:
    return sorted((row["partition"], row["offset"]) for row in requests.collect())


def reached(gate: Gate, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not gate.reached() and time.monotonic() < deadline:
        time.sleep(0.05)
    return gate.reached()


def test_an_open_gate_drops_what_comes_before_the_first_offset_of_its_partition(
    spark: SparkSession, requests: DataFrame
) -> None:
    gate = Gate(spark, [0, 1])
    gate.open({0: 7, 1: 9})

    assert passed(gate.before(requests)) == [(0, 7), (0, 8), (0, 9), (1, 9)]
    assert not gate.reached()


def test_requests_wait_at_a_closed_gate_until_it_opens_once(spark: SparkSession, requests: DataFrame) -> None:
    gate = Gate(spark, [0])
    of_one_partition = gate.before(requests.where("partition = 0").coalesce(1))
    with ThreadPoolExecutor(max_workers=1) as others:
        waiting: Future[list[tuple[int, int]]] = others.submit(passed, of_one_partition)
        came = reached(gate)
        done_before = waiting.done()
        gate.open({0: 8})
        gate.open({0: 0})

        assert waiting.result(60) == [(0, 8), (0, 9)]
    assert came
    assert not done_before


def test_what_others_have_answered_does_not_wait(spark: SparkSession, requests: DataFrame) -> None:
    gate = Gate(spark, [0, 1])
    gate.answered({0: 5, 1: 10})
    gate.answered({0: 10, 1: 3})

    assert passed(gate.before(requests)) == []
    gate.open({0: 9, 1: 10})
    gate.answered({0: 10, 1: 10})
    assert passed(gate.before(requests)) == [(0, 9)]


def test_who_waits_at_a_gate_that_never_opens_can_be_cancelled(
    spark: SparkSession, requests: DataFrame
) -> None:
    gate = Gate(spark, [0])
    context = spark.sparkContext

    def wait() -> None:
        context.setJobGroup(gate.name, "waits", interruptOnCancel=True)
        with suppress(Exception):  # of Spark, in one form or another
            gate.before(requests.where("partition = 0").coalesce(1)).collect()

    with ThreadPoolExecutor(max_workers=1) as others:
        waiting = others.submit(wait)
        came = reached(gate)
        context.cancelJobGroup(gate.name)
        waiting.result(30)
    assert came
    gate.close()
    assert not gate.reached()
