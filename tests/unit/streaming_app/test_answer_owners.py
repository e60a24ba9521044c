"""Which answers count, by the takeovers."""

import json

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from streaming_app.answer_owners import as_takeovers, keep_owners_answers

BEGAN = {"generation": 2, "next_offsets": {"0": 10, "1": 20}, "answers_from": {"0": 100, "1": 200}}


@pytest.mark.parametrize(
    ("generation", "source_offset", "answer_offset", "counts"),
    [
        (1, 9, 99, True),  # answered before the takeover
        (1, 10, 100, False),  # a frozen process, after it
        (2, 10, 101, True),
        (1, 10, 99, True),  # to an earlier topic of the same name
        (1, 9, 100, True),  # a message before those that the successor answers
        (3, 10, 102, True),
        (None, 10, 102, True),  # from before there were generations
    ],
)
def test_an_answer_counts_unless_a_later_generation_had_taken_its_request_over(
    spark: SparkSession,
    generation: int | None,
    source_offset: int,
    answer_offset: int,
    counts: bool,
) -> None:
    records = spark.createDataFrame(pd.DataFrame({"value": [json.dumps(BEGAN), "?"]}))
    answers = spark.sql(
        f"SELECT CAST({generation or 'NULL'} AS BIGINT) AS generation, 0 AS source_partition, "
        f"{source_offset} AS source_offset, 0 AS answer_partition, {answer_offset} AS answer_offset"
    )
    assert keep_owners_answers(answers, as_takeovers(records)).count() == int(counts)
    assert keep_owners_answers(answers, as_takeovers(records.limit(0))).count() == 1
