"""What a message on the requests topic is, and what an answer looks like: Spark columns, no row-wise code.

A message that is not a valid `price_set` gets exactly one answer. Its envelope is judged here, its listing by
the model; the first reason found is the answer's:

    not_json            longer than nothing, but not one JSON object in valid UTF-8
    too_large           more bytes than allowed; not read
    unknown_type        `type` is neither price_request nor price_set
    missing_request_id  `request_id` is absent, empty or longer than 100 characters
    missing_listing     `listing` is not an object
    invalid_price_set   a price_set without request_id, with a price that is no positive number, or with a
                        set_at that is no time
    no_price            the model gave neither a finite positive price nor a reason
"""

from collections.abc import Sequence
from typing import Protocol

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.types import LongType

from streaming_app.instants import INSTANT
from streaming_app.java_classes import called_anew

MAX_REQUEST_ID_CHARACTERS = 100
# Dearer than any car: a larger number is a slip of the keyboard, and would drown every error measure.
MAX_SET_PRICE_USD = 1e8

# Every field as text: whatever JSON value stands there, reading it cannot fail. An object's text is its JSON.
_ENVELOPE = (
    "type STRING, request_id STRING, listing STRING, requested_at STRING, price STRING, set_at STRING, "
    "malformed STRING"
)
_STRICT_JSON = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": "malformed",
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
}


def parse_messages(messages: DataFrame, max_bytes: int) -> DataFrame:
    """Read the envelopes of raw Kafka records (columns value BINARY, partition, offset, timestamp at least).

    Adds `envelope`, a struct of text fields (null when the value is no JSON object), `problem` and
    `problem_field` (null when the message is a well-formed price_request or price_set), `set_price` (USD) and
    `set_at`. Never throws, whatever the bytes.
    """
    value = sf.col("value")
    text = value.cast("string")
    envelope = sf.col("envelope")
    message_type = envelope["type"]
    request_id = envelope["request_id"]
    set_price = envelope["price"].try_cast("double")
    set_at = envelope["set_at"].try_cast("timestamp")

    unreadable = envelope.isNull() | envelope["malformed"].isNotNull()
    no_request_id = request_id.isNull() | ~sf.length(request_id).between(1, MAX_REQUEST_ID_CHARACTERS)
    is_set = message_type == "price_set"
    is_request = message_type == "price_request"
    no_listing = envelope["listing"].isNull() | ~envelope["listing"].startswith("{")
    # NaN is larger than every number in Spark, so the upper bound excludes it as well.
    no_set_price = set_price.isNull() | (set_price <= 0) | (set_price > MAX_SET_PRICE_USD)
    no_set_at = envelope["set_at"].isNotNull() & set_at.isNull()

    problems: list[tuple[Column, str, str | None]] = [
        (sf.octet_length(value) > max_bytes, "too_large", None),
        (unreadable, "not_json", None),
        (message_type.isNull() | ~(is_set | is_request), "unknown_type", "type"),
        (is_request & no_request_id, "missing_request_id", "request_id"),
        (is_request & no_listing, "missing_listing", "listing"),
        (is_set & no_request_id, "invalid_price_set", "request_id"),
        (is_set & no_set_price, "invalid_price_set", "price"),
        (is_set & no_set_at, "invalid_price_set", "set_at"),
    ]
    problem, problem_field = sf.lit(None).cast("string"), sf.lit(None).cast("string")
    for holds, reason, field in reversed(problems):
        problem = sf.when(holds, sf.lit(reason)).otherwise(problem)
        problem_field = sf.when(holds, sf.lit(field)).otherwise(problem_field)

    # Never false. What is not deterministic is not copied: else the optimizer would push each condition on
    # the envelope below its making, and every message would be parsed a dozen times.
    once = sf.spark_partition_id() >= 0
    readable = sf.when(once & (sf.octet_length(value) <= max_bytes) & sf.is_valid_utf8(text), text)
    return messages.withColumn("envelope", sf.from_json(readable, _ENVELOPE, _STRICT_JSON)).withColumns(
        {
            "problem": problem,
            "problem_field": problem_field,
            "set_price": set_price,
            "set_at": set_at,
        }
    )


def set_prices(messages: DataFrame, max_bytes: int) -> DataFrame:
    """Keep the valid `price_set` messages of raw Kafka records: request_id, set_price (USD), set_at (null
    when the message does not say), priced_at (the time of the Kafka record), and its partition and offset.
    """
    return (
        parse_messages(messages, max_bytes)
        .where(sf.col("problem").isNull() & (sf.col("envelope")["type"] == "price_set"))
        .select(
            sf.col("envelope")["request_id"].alias("request_id"),
            "set_price",
            "set_at",
            sf.col("timestamp").alias("priced_at"),
            "partition",
            "offset",
        )
    )


def requests_to_answer(messages: DataFrame, max_bytes: int) -> DataFrame:
    """Keep what gets an answer: the columns `request` (struct) and `listing` (JSON text, `{}` when none).

    A message with a problem passes through the model with an empty listing; its problem outranks what the
    model says.
    """
    request_id = sf.col("envelope")["request_id"]
    requested_at = sf.col("envelope")["requested_at"].try_cast("timestamp")
    return (
        parse_messages(messages, max_bytes)
        .where(sf.col("problem").isNotNull() | (sf.col("envelope")["type"] == "price_request"))
        .select(
            sf.struct(
                sf.when(sf.length(request_id).between(1, MAX_REQUEST_ID_CHARACTERS), request_id).alias(
                    "request_id"
                ),
                "problem",
                "problem_field",
                sf.date_format(requested_at, INSTANT).alias("requested_at"),
                sf.date_format("timestamp", INSTANT).alias("received_at"),
                sf.col("partition").alias("source_partition"),
                sf.col("offset").alias("source_offset"),
            ).alias("request"),
            sf.when(sf.col("problem").isNull(), sf.col("envelope")["listing"])
            .otherwise(sf.lit("{}"))
            .alias("listing"),
        )
    )


class PriceModel(Protocol):
    """Adds `price`, its interval where it knows one, `rejection` and `rejection_field` to each `listing`."""

    def transform(self, dataset: DataFrame) -> DataFrame:
        """Add the columns."""


def answers(requests: DataFrame, model: PriceModel, model_version: str, generation: int) -> DataFrame:
    """Let the model answer `requests`: the columns key, value (JSON text) and partition of the answer.

    A price comes with the ends of its interval, null when the model gives none. The partition is the
    request's, so that each output partition is a prefix of what was asked. Of two answers to one request,
    which only a process that was frozen can give, the higher generation counts.
    """
    request = sf.col("request")
    price = sf.col("price")
    priced = price.isNotNull() & (price > 0) & (price < sf.lit(float("inf")))
    reason = sf.coalesce(
        request["problem"],
        sf.col("rejection"),
        sf.when(~sf.coalesce(priced, sf.lit(False)), sf.lit("no_price")),
    )
    field = sf.when(request["problem"].isNotNull(), request["problem_field"]).otherwise(
        sf.col("rejection_field")
    )
    origin = (
        sf.lit(model_version).alias("model_version"),
        # Decimal, because Spark writes whole numbers into the code it generates: each generation would get a
        # class of its own, which the JVM has not compiled yet.
        sf.lit(generation).cast("decimal(18, 0)").alias("generation"),
        request["source_partition"].alias("source_partition"),
        request["source_offset"].alias("source_offset"),
        request["requested_at"].alias("requested_at"),
        request["received_at"].alias("received_at"),
        # The clock itself: current_timestamp() stands still for the length of a real-time batch.
        sf.date_format(sf.timestamp_millis(_clock(requests.sparkSession)), INSTANT).alias("answered_at"),
    )
    request_id = request["request_id"].alias("request_id")
    rejection = sf.struct(
        sf.lit("rejection").alias("type"),
        request_id,
        sf.col("reason"),
        sf.col("field"),
        *origin,
    )
    interval = (sf.col("price_low"), sf.col("price_high"))
    answer = sf.struct(sf.lit("price").alias("type"), request_id, price, *interval, *origin)
    keep_nulls = {"ignoreNullFields": "false"}
    priced_requests = model.transform(requests)
    return priced_requests.select(
        "request",
        "price",
        *_interval(priced_requests.columns),
        reason.alias("reason"),
        field.alias("field"),
    ).select(
        request_id.alias("key"),
        sf.when(sf.col("reason").isNull(), sf.to_json(answer, keep_nulls))
        .otherwise(sf.to_json(rejection, keep_nulls))
        .alias("value"),
        request["source_partition"].alias("partition"),
    )


def _clock(spark: SparkSession) -> Column:
    return called_anew(spark, "java.lang.System", "currentTimeMillis", LongType())


def _interval(given: Sequence[str]) -> list[Column]:
    """The ends of the price's interval, where a model gives one that the price lies in."""
    ends = ("price_low", "price_high")
    if not set(ends) <= set(given):
        return [sf.lit(None).cast("double").alias(end) for end in ends]
    low, high = (sf.col(end).try_cast("double") for end in ends)
    # NaN is larger than every number in Spark.
    sound = (low > 0) & (low <= sf.col("price")) & (high >= sf.col("price")) & (high < sf.lit(float("inf")))
    return [sf.when(sound, value).alias(end) for value, end in zip((low, high), ends, strict=True)]
