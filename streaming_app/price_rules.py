"""What becomes of each set price: moves that, summed, count every price once, by its own rule.

A price is counted where it stands, and moved on when more is known of it, as in double-entry bookkeeping:

    behind_watermark ─▶ duplicates ─▶ contradictory ─▶ orphans ─▶ in time, late or rejected

So sums need no correction and no price can be missing: received is the sum of all outcomes.
docs/decisions/015 has the rules.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from streaming_app.answer_owners import keep_owners_answers
from streaming_app.settings import LiveMetricsSettings

OUTCOMES = ("behind_watermark", "duplicates", "contradictory", "orphans", "in_time", "late", "rejected")
"""What becomes of a set price."""

_MEASURES = ("predicted", "set_price", "delay", "inside")
_ANSWER = (
    "type STRING, request_id STRING, price DOUBLE, price_low DOUBLE, price_high DOUBLE, "
    "model_version STRING, generation BIGINT, source_partition INT, source_offset BIGINT"
)


def read_answers(records: DataFrame) -> DataFrame:
    """Read the answers of raw Kafka records.

    Columns: type, request_id, predicted (USD, null for a rejection), price_low and price_high (USD, null
    where the model gave no interval), model_version, generation, source_partition, source_offset,
    answer_partition, answer_offset, answered_at (of the Kafka record: the brokers bound how wrong it can be).
    """
    answer = sf.from_json(sf.col("value").cast("string"), _ANSWER)
    return (
        records.select(
            answer.alias("answer"),
            sf.col("partition").alias("answer_partition"),
            sf.col("offset").alias("answer_offset"),
            sf.col("timestamp").alias("answered_at"),
        )
        .where("answer.type = 'rejection' OR (answer.type = 'price' AND answer.price > 0)")
        .select("answer.*", "answer_partition", "answer_offset", "answered_at")
        .withColumnRenamed("price", "predicted")
    )


def moves(
    answers: DataFrame, prices: DataFrame, takeovers: DataFrame, settings: LiveMetricsSettings
) -> DataFrame:
    """Judge each price of `prices` (as of messages.set_prices) by the `answers` (as of read_answers).

    Both have watermarks. Columns: at (event time with a watermark), model_version (null where no answer is
    known), out_of and into (OUTCOMES; also into requests, those answered with a price, and requests_priced,
    those whose price came in time), and of a price in time predicted, set_price (USD), delay (seconds) and
    inside (1 or 0: whether it lies in the interval that was answered; null without one).
    """
    received = prices.select(
        sf.col("priced_at").alias("at"),
        _text(None).alias("model_version"),
        _text(None).alias("out_of"),
        _text("behind_watermark").alias("into"),
        *_nothing_measured(),
    )
    answered = keep_owners_answers(answers, takeovers).where("type = 'price'")
    requests = answered.select(
        sf.col("answered_at").alias("at"),
        "model_version",
        _text(None).alias("out_of"),
        _text("requests").alias("into"),
        *_nothing_measured(),
    )
    return (
        received.unionAll(_first_seen(prices))
        .unionAll(requests)
        .unionAll(_answered(answers, prices, takeovers, settings))
    )


def _first_seen(prices: DataFrame) -> DataFrame:
    """Tell what is new of the prices from what repeats."""
    new_message = _step("message", ("partition", "offset"), "behind_watermark", "duplicates")
    new_price = _step("price", ("request_id", "set_price"), "duplicates", "contradictory")
    first_price = _step("request", ("request_id",), "contradictory", "orphans")
    return (
        prices.select(
            sf.col("priced_at").alias("at"),
            _text(None).alias("model_version"),
            sf.inline(sf.array(new_message, new_price, first_price)),
        )
        .dropDuplicatesWithinWatermark(["key"])
        .select("at", "model_version", "out_of", "into", *_nothing_measured())
    )


def _answered(
    answers: DataFrame, prices: DataFrame, takeovers: DataFrame, settings: LiveMetricsSettings
) -> DataFrame:
    """Move the first price of each answered request on: it is in time, late, or of a rejected request."""
    joined = answers.join(
        prices.select(sf.col("request_id").alias("priced_id"), "set_price", "priced_at"),
        sf.expr(
            "request_id = priced_id "
            f"AND priced_at >= answered_at - INTERVAL {settings.live_metrics_lateness} "
            f"AND priced_at <= answered_at + INTERVAL {settings.live_metrics_answers_kept}"
        ),
    ).withColumns(
        {
            "outcome": sf.when(sf.col("type") == "rejection", "rejected")
            .when(sf.expr(f"priced_at > answered_at + INTERVAL {settings.live_metrics_price_delay}"), "late")
            .otherwise("in_time"),
            # A number: a stateful operator takes one column with a watermark.
            "answered_micros": sf.unix_micros("answered_at"),
        }
    )
    judged = keep_owners_answers(joined.drop("answered_at"), takeovers).dropDuplicatesWithinWatermark(
        ["request_id"]
    )
    in_time = sf.col("outcome") == "in_time"
    delay = sf.greatest(sf.lit(0.0), (sf.unix_micros("priced_at") - sf.col("answered_micros")) / 1e6)
    inside = sf.col("set_price").between(sf.col("price_low"), sf.col("price_high")).cast("double")
    of_price = sf.struct(
        sf.col("priced_at").alias("at"),
        _text("orphans").alias("out_of"),
        sf.col("outcome").alias("into"),
        sf.when(in_time, sf.col("predicted")).alias("predicted"),
        sf.when(in_time, sf.col("set_price")).alias("set_price"),
        sf.when(in_time, delay).alias("delay"),
        sf.when(in_time, inside).alias("inside"),
    )
    of_request = sf.struct(
        sf.timestamp_micros("answered_micros").alias("at"),
        _text(None).alias("out_of"),
        _text("requests_priced").alias("into"),
        *_nothing_measured(),
    )
    return judged.select(
        "model_version",
        sf.inline(sf.when(in_time, sf.array(of_price, of_request)).otherwise(sf.array(of_price))),
    ).select("at", "model_version", "out_of", "into", *_MEASURES)


def _step(name: str, identity: tuple[str, ...], out_of: str, into: str) -> Column:
    key = sf.concat_ws(" ", sf.lit(name), *identity)
    return sf.struct(key.alias("key"), _text(out_of).alias("out_of"), _text(into).alias("into"))


def _text(value: str | None) -> Column:
    return sf.lit(value).cast("string")


def _nothing_measured() -> list[Column]:
    return [sf.lit(None).cast("double").alias(measure) for measure in _MEASURES]
