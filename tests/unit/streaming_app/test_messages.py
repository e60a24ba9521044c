"""What a message is, and what is answered to it."""

import json
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.ml import PipelineModel
from pyspark.ml.feature import SQLTransformer
from pyspark.sql import DataFrame, SparkSession

from streaming_app.messages import answers, requests_to_answer, set_prices
from streaming_app.serving_query import optimised
from tests.batches_of_texts import few_batches

MAX_BYTES = 4096
LISTING = {"make_name": "Honda", "year": 2017}


@pytest.fixture(scope="module")
def model() -> PipelineModel:
    """Prices a listing by its year, and has an opinion of its own on listings without one."""
    statement = """
        SELECT *, 10 * year AS price,
            CASE WHEN year IS NULL THEN 'missing_year' END AS rejection,
            CASE WHEN year IS NULL THEN 'year' END AS rejection_field
        FROM (SELECT *, try_cast(get_json_object(listing, '$.year') AS double) AS year FROM __THIS__)
    """
    return PipelineModel([SQLTransformer(statement=statement)])


def as_records(spark: SparkSession, values: list[bytes | None]) -> DataFrame:
    table = pa.table(
        {"value": pa.array(values, pa.binary()), "offset": pa.array(range(len(values)), pa.int64())}
    )
    return spark.createDataFrame(table).selectExpr(
        "*", "1 AS partition", "TIMESTAMP '2026-01-01 00:00:00' AS timestamp"
    )


def answered(spark: SparkSession, model: PipelineModel, values: list[bytes | None]) -> list[dict[str, Any]]:
    """The answers to the values by serving's plan, by source offset; partition and key are as agreed."""
    requests = requests_to_answer(as_records(spark, values), MAX_BYTES)
    rows = optimised(answers(requests, model, "7", 12)).collect()
    given = [json.loads(row["value"]) for row in rows]
    for row, answer in zip(rows, given, strict=True):
        assert row["partition"] == answer["source_partition"] == 1
        assert row["key"] == answer["request_id"]
        assert answer["model_version"] == "7"
    return sorted(given, key=lambda answer: answer["source_offset"])


def message(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def request(**fields: Any) -> bytes:
    return message(**{"type": "price_request", "request_id": "a", "listing": LISTING, **fields})


def price_set(**fields: Any) -> bytes:
    return message(**{"type": "price_set", "request_id": "a", "price": 15_900.5, **fields})


REJECTED: list[tuple[bytes | None, str, str | None]] = [
    (None, "not_json", None),
    (b"", "not_json", None),
    (b"  ", "not_json", None),
    (b"not json", "not_json", None),
    (b"null", "not_json", None),
    (b"17", "not_json", None),
    (b'"text"', "not_json", None),
    (b"[]", "not_json", None),
    (b"[" + request() + b"]", "not_json", None),
    (request()[:-1], "not_json", None),
    (request()[:30], "not_json", None),
    (request().replace(b'"', b"'"), "not_json", None),
    (b"\xff\xfe" + request(), "not_json", None),
    (request().decode().encode("utf-16"), "not_json", None),
    (b'{"type": "price_request", "request_id": "\xc3"}', "not_json", None),
    (b"[" * 2000, "not_json", None),
    (b'{"a":' * 600 + b"1" + b"}" * 600, "unknown_type", "type"),
    (request(padding="x" * MAX_BYTES), "too_large", None),
    (b"\xff" * (MAX_BYTES + 1), "too_large", None),
    (b"{}", "unknown_type", "type"),
    (request(type=None), "unknown_type", "type"),
    (request(type="price"), "unknown_type", "type"),
    (request(type=["price_request"]), "unknown_type", "type"),
    (request(request_id=None), "missing_request_id", "request_id"),
    (request(request_id=""), "missing_request_id", "request_id"),
    (request(request_id="x" * 101), "missing_request_id", "request_id"),
    (request(listing=None), "missing_listing", "listing"),
    (request(listing=[LISTING]), "missing_listing", "listing"),
    (request(listing="text"), "missing_listing", "listing"),
    (request(listing=17), "missing_listing", "listing"),
    (request(listing={}), "missing_year", "year"),
    (request(listing={"year": -1}), "no_price", None),
    (request(listing={"year": 0}), "no_price", None),
    (request(listing={"year": "NaN"}), "no_price", None),
    (request(listing={"year": "1e400"}), "no_price", None),
    (price_set(request_id=""), "invalid_price_set", "request_id"),
    (price_set(price=None), "invalid_price_set", "price"),
    (price_set(price="much"), "invalid_price_set", "price"),
    (price_set(price=0), "invalid_price_set", "price"),
    (price_set(price=-5), "invalid_price_set", "price"),
    (price_set(price=1e9), "invalid_price_set", "price"),
    (price_set(price=math.nan), "not_json", None),
    (price_set(price={"usd": 5}), "invalid_price_set", "price"),
    (price_set(set_at="yesterday"), "invalid_price_set", "set_at"),
]


def test_every_bad_message_is_answered_with_its_reason_and_field(
    spark: SparkSession, model: PipelineModel
) -> None:
    given = answered(spark, model, [value for value, _, _ in REJECTED])
    assert [(a["type"], a["source_offset"]) for a in given] == [
        ("rejection", n) for n in range(len(REJECTED))
    ]
    said = [(value, a["reason"], a["field"]) for (value, _, _), a in zip(REJECTED, given, strict=True)]
    assert said == REJECTED


def test_a_rejection_names_the_request_it_can_read(spark: SparkSession, model: PipelineModel) -> None:
    given = answered(
        spark, model, [request(listing=None), request(type="?"), request(request_id="x" * 101), b"?"]
    )
    assert [a["request_id"] for a in given] == ["a", "a", None, None]


def test_a_price_request_is_answered_with_the_price_of_the_model(
    spark: SparkSession, model: PipelineModel
) -> None:
    at = "2026-01-01T01:00:00.5+01:00"
    (given,) = answered(spark, model, [request(requested_at=at, unknown_field=[1, {"a": None}])])
    assert given.pop("answered_at")[:4].isdigit()
    assert given == {
        "type": "price",
        "request_id": "a",
        "price": 20_170.0,
        "price_low": None,
        "price_high": None,
        "model_version": "7",
        "generation": 12,
        "source_partition": 1,
        "source_offset": 0,
        "requested_at": "2026-01-01T00:00:00.500Z",
        "received_at": "2026-01-01T00:00:00.000Z",
    }


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        ("0.9D * price", "1.2D * price", (18_153.0, 24_204.0)),
        ("price", "price", (20_170.0, 20_170.0)),
        ("CAST(NULL AS DOUBLE)", "1.2D * price", (None, None)),
        ("0.9D * price", "CAST('NaN' AS DOUBLE)", (None, None)),
        ("0.9D * price", "CAST('Infinity' AS DOUBLE)", (None, None)),
        ("-1D", "1.2D * price", (None, None)),
        ("1.1D * price", "1.2D * price", (None, None)),
        ("0.8D * price", "0.9D * price", (None, None)),
        ("'cheap'", "'dear'", (None, None)),
    ],
)
def test_a_price_comes_with_its_interval_where_the_model_gives_one_that_holds_the_price(
    spark: SparkSession, model: PipelineModel, low: str, high: str, told: tuple[float | None, float | None]
) -> None:
    statement = f"SELECT *, {low} AS price_low, {high} AS price_high FROM __THIS__"  # noqa: S608
    with_interval = PipelineModel([*model.stages, SQLTransformer(statement=statement)])
    priced, rejected = answered(spark, with_interval, [request(), request(listing={})])
    assert (priced["price"], priced["type"]) == (20_170.0, "price")
    assert (priced["price_low"], priced["price_high"]) == (pytest.approx(told[0]), pytest.approx(told[1]))
    assert (rejected["type"], "price_low" in rejected) == ("rejection", False)


@pytest.mark.parametrize("at", ["soon", "", "+294247-01-01T00:00:00Z", 5, None, {"a": 1}, "12:00", "10000"])
def test_a_strange_time_of_request_hinders_no_price(
    spark: SparkSession, model: PipelineModel, at: object
) -> None:
    assert [a["type"] for a in answered(spark, model, [request(requested_at=at)])] == ["price"]


def test_the_model_gets_the_listing_as_it_was_sent(spark: SparkSession) -> None:
    sent = {
        "year": "2017",
        "major_options": ["A", "B"],
        "power": None,
        "city": "Zoë \U0001f697",
        "x": {"y": 1.5},
    }
    (row,) = requests_to_answer(as_records(spark, [request(listing=sent)]), MAX_BYTES).collect()
    assert json.loads(row["listing"]) == sent


def test_a_valid_set_price_gets_no_answer_and_is_what_live_metrics_read(
    spark: SparkSession, model: PipelineModel
) -> None:
    values = [price_set(), price_set(price="16000", set_at="2026-01-02T03:04:05Z"), request()]
    assert [a["source_offset"] for a in answered(spark, model, values)] == [2]
    kept = set_prices(as_records(spark, values), MAX_BYTES).collect()
    assert [(row["request_id"], row["set_price"]) for row in kept] == [("a", 15_900.5), ("a", 16_000.0)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["price_request", "price_set"]) | json_values,
        "request_id": st.text(min_size=1, max_size=100) | json_values,
        "listing": st.fixed_dictionaries({}, optional={"year": json_values, "make_name": json_values}),
        "price": st.floats() | json_values,
        "set_at": st.datetimes().map(str) | json_values,
        "requested_at": st.datetimes().map(str) | json_values,
    },
).map(lambda fields: json.dumps(fields).encode())


@st.composite
def mutated_messages(draw: st.DrawFn) -> bytes:
    """A message, cut, with bytes replaced, in another encoding, doubled, or no message at all."""
    value = draw(messages | st.binary(max_size=50))
    place = draw(st.integers(0, len(value)))
    how = draw(st.sampled_from(["whole", "cut", "replaced", "inserted", "utf-16", "doubled"]))
    if how == "cut":
        return value[:place]
    if how == "replaced":
        return value[:place] + draw(st.binary(min_size=1, max_size=3)) + value[place + 1 :]
    if how == "inserted":
        return value[:place] + draw(st.binary(min_size=1, max_size=3)) + value[place:]
    if how == "utf-16":
        return value.decode("latin-1").encode("utf-16")
    return value + value if how == "doubled" else value


@few_batches
@given(values=st.lists(mutated_messages(), min_size=20, max_size=120))
def test_every_message_is_answered_once_or_is_a_set_price_whatever_its_bytes(
    spark: SparkSession, model: PipelineModel, values: list[bytes]
) -> None:
    answered_offsets = [a["source_offset"] for a in answered(spark, model, list(values))]
    kept = set_prices(as_records(spark, list(values)), MAX_BYTES).select("set_price").collect()
    assert len(set(answered_offsets)) == len(answered_offsets)
    assert len(answered_offsets) + len(kept) == len(values)
    assert all(0 < row["set_price"] < math.inf for row in kept)
