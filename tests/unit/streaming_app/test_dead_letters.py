"""What a dead letter holds."""

import base64
import json
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from streaming_app.dead_letters import dead_letters, read_rejections

MESSAGES = [b'{"type": "?", "request_id": "\xc3\xa9"}', b"\xff\xfe", b"\x01" * 50]


def letters(spark: SparkSession, offsets: list[int]) -> list[tuple[str, dict[str, Any]]]:
    """The dead letters of rejections of the requests at these offsets, in the order of their keys."""
    rejection = {"type": "rejection", "reason": "unknown_type", "field": "type", "source_partition": 1}
    answers = [json.dumps({**rejection, "source_offset": n}).encode() for n in offsets]
    others = [b'{"type": "price", "source_partition": 1, "source_offset": 0}', b'{"type": "rejection"}', b"?"]
    requests = spark.createDataFrame(
        pa.table({"value": pa.array(MESSAGES, pa.binary()), "offset": range(len(MESSAGES))})
    ).selectExpr("value", "offset", "1 AS partition", "TIMESTAMP '2026-01-02 03:04:05' AS timestamp")
    records = spark.createDataFrame(pa.table({"value": pa.array(answers + others, pa.binary())}))
    rows = dead_letters(read_rejections(records), requests).collect()
    return sorted((row["key"], json.loads(row["value"])) for row in rows)


def test_a_letter_holds_the_message_as_text_or_where_that_is_longer_or_impossible_as_base64(
    spark: SparkSession,
) -> None:
    (key, text), (_, no_utf8), (_, control_characters) = letters(spark, [0, 1, 2])
    assert (key, text["reason"], text["field"]) == ("1-0", "unknown_type", "type")
    assert (text["message_text"], text["message_base64"]) == (MESSAGES[0].decode(), None)
    assert text["sent_at"] == "2026-01-02T03:04:05.000Z"
    for letter, message in ((no_utf8, MESSAGES[1]), (control_characters, MESSAGES[2])):
        assert letter["message_text"] is None
        assert base64.b64decode(letter["message_base64"]) == message


def test_a_message_is_told_once_and_also_when_the_topic_has_it_no_more(spark: SparkSession) -> None:
    (_, first), (key, gone) = letters(spark, [0, 0, 9])
    assert first["message_text"] is not None
    assert (key, gone["message_text"], gone["message_base64"]) == ("1-9", None, None)
