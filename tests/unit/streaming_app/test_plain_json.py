"""Plain JSON is read fast, and as Spark reads it."""

import json
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.types import Row

from streaming_app.serving_query import optimised
from tests.batches_of_texts import few_batches

FIELDS = ("year", "make_name", "nested", "é")
SCHEMA = ", ".join(f"`{field}` STRING" for field in (*FIELDS, "malformed"))
STRICT = {
    "columnNameOfCorruptRecord": "malformed",
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
}
LENIENT = {"columnNameOfCorruptRecord": "malformed"}

PLAIN = [
    "{}",
    '{"year":2017}',
    ' { "year" : 2017 , "make_name" : "Citroën" }\r\n\t',
    '{"year":null,"make_name":true,"nested":false}',
    '{"é":"é","other":"x"}',
    '{"year":-12.50,"make_name":0.1,"nested":100000000.5,"é":-0.0}',
    '{"year":-0,"make_name":12345678901234567}',
    '{"nested":{"a": [1, 2.5, -3, "x\\"y\\\\", null, true, {}], "b" :[ ]},"year":"1"}',
    '{"other":{"a": [1, 2.50, -0, "x"]},"year":"1"}',
    '{"other":"with \\"quotes\\" and \\n","year":"1"}',
    '{"make_name":"exactly so"}',
    '{"make_name":"exactly1"}',
    '{"make_name":"' + "long " * 100 + '"}',
    '{"make_name":"\x7f","year":""}',
    '{"make_name":"\U0001f697"}',
]
LEFT_TO_SPARK = [
    "",
    " ",
    "null",
    "17",
    '"year"',
    "[]",
    '[{"year":1}]',
    '{"year":1',
    '{"year":1,}',
    '{"year":1}}',
    '{"year":1} {"year":2}',
    '{"year":1}\0',
    '{"year":01}',
    '{"year":+1}',
    '{"year":1.}',
    '{"year":.5}',
    '{"year":-}',
    '{"year":1e3}',
    '{"year":1E400}',
    '{"year":123456789012345678901234567890}',
    '{"year":0.12345678901234567890}',
    '{"year":NaN}',
    '{"year":tru}',
    '{"year":truer}',
    '{"year":1,"year":2}',
    '{"year":null,"year":2}',
    '{"make_name":"a\\"b"}',
    '{"make_name":"\\u0041"}',
    '{"make_name":"\\x"}',
    '{"make_name":"a\tb"}',
    '{"make_name":"a\x1fb"}',
    '{"make_name":"not closed}',
    '{"\\u0079ear":1}',
    "{'year':1}",
    "{year:1}",
    '{"year":1 /* so */}',
    '\ufeff{"year":1}',
    '\x0b{"year":1}',
    '{"nested":{"a":1.50}}',
    '{"nested":{"a":-0}}',
    '{"nested":{"a":1e3}}',
    '{"nested":["\\/"]}',
    '{"nested":["\\u00e9"]}',
    '{"nested":["\U0001f697"]}',
    '{"nested":[1,]}',
    '{"nested":{"a"}}',
    '{"nested":{1:2}}',
    '{"nested":' + "[" * 40 + "]" * 40 + "}",
    '{"other":' + "[" * 1200 + "]" * 1200 + ',"year":1}',
    '{"make_name":"' + "long " * 20_000 + '"}',
    '{"malformed":"x","year":1}',
]


def texts(spark: SparkSession, values: Sequence[bytes]) -> DataFrame:
    """Text as Kafka's bytes are made one: whether they are UTF-8 or not."""
    table = pa.table({"value": pa.array(values, pa.binary()), "place": range(len(values))})
    return spark.createDataFrame(table).coalesce(1).selectExpr("place", "CAST(value AS STRING) AS text")


def read(data: DataFrame, options: dict[str, str]) -> DataFrame:
    return data.select("place", sf.from_json("text", SCHEMA, options).alias("found"))


def check(spark: SparkSession, values: Sequence[bytes]) -> list[Row]:
    """What is found in the texts, the same by Spark and by serving's plan."""
    data, found = texts(spark, values), []
    for options in (STRICT, LENIENT):
        by_spark = read(data, options)
        found = by_spark.collect()
        assert optimised(by_spark).collect() == found
    return found


def test_plain_json_is_read_as_spark_reads_it(spark: SparkSession) -> None:
    found = check(spark, [text.encode() for text in PLAIN])

    assert all(row["found"]["malformed"] is None for row in found)
    assert found[2]["found"]["make_name"] == "Citroën"
    assert found[7]["found"]["nested"] == '{"a":[1,2.5,-3,"x\\"y\\\\",null,true,{}],"b":[]}'


def test_what_is_not_plain_or_no_json_at_all_is_read_as_spark_reads_it(spark: SparkSession) -> None:
    found = check(spark, [text.encode() for text in LEFT_TO_SPARK])

    assert sum(row["found"] is not None and row["found"]["malformed"] is not None for row in found) > 20


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f"])
def test_bytes_that_are_no_utf8_are_read_as_spark_reads_them(spark: SparkSession, broken: bytes) -> None:
    values = [b'{"make_name":"' + broken + b'"}', b'{"' + broken + b'":1,"year":2}', b"{" + broken + b"}"]
    check(spark, values)


def test_only_what_is_read_from_texts_alone_is_read_fast(spark: SparkSession) -> None:
    data = texts(spark, [b'{"year": 2017}'])

    def plan(schema: str) -> str:
        read_so = optimised(data.select(sf.from_json("text", schema)))
        return str(read_so._jdf.queryExecution().optimizedPlan().toString())

    assert "PlainJson" in plan("year STRING")
    assert "PlainJson" not in plan("year INT")
    assert "PlainJson" not in plan("ARRAY<STRING>")


written_values = st.recursive(
    st.sampled_from(["null", "true", "false", "0", "-0", "-1", "1.5", "1.50", "1e3", "NaN", "01", "1.", ""])
    | st.integers().map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.decimals(-1000, 1_000_000, places=3).map(str)
    | st.text(max_size=12).map(json.dumps)
    | st.text(max_size=12).map(lambda text: json.dumps(text, ensure_ascii=False)),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: f"[{', '.join(values)}]")
        | st.lists(st.tuples(st.text(max_size=4).map(json.dumps), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{name}: {value}" for name, value in pairs) + "}"
        )
    ),
    max_leaves=5,
)
names = (st.sampled_from([*FIELDS, "malformed", "other"]) | st.text(max_size=9)).map(
    lambda name: json.dumps(name, ensure_ascii=False)
)


@st.composite
def written_objects(draw: st.DrawFn) -> bytes:
    """An object with blanks here and there, in which now and then a byte is another."""
    pairs = draw(st.lists(st.tuples(names, written_values), max_size=5))
    blank = st.sampled_from(["", "", " ", "\n"])
    text = ",".join(f"{draw(blank)}{name}{draw(blank)}:{draw(blank)}{value}" for name, value in pairs)
    value = f"{draw(blank)}{{{text}{draw(blank)}}}{draw(blank)}".encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(value)))
        return value[:place] + draw(st.binary(max_size=2)) + value[place + 1 :]
    return value


@few_batches
@given(values=st.lists(written_objects(), min_size=20, max_size=100))
def test_whatever_is_written_is_read_as_spark_reads_it(spark: SparkSession, values: list[bytes]) -> None:
    check(spark, values)
