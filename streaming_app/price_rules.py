"""What becomes of each set price: entries that, summed, count every price once, by its own rule.

A price is counted where it stands, and moved on when more is known of it, as in double-entry bookkeeping:

    behind_watermark ─▶ duplicates ─▶ contradictory ─▶ orphans ─▶ in time, late or rejected

Each step is a row with +1 for where the price goes and -1 for where it was, so that sums need no correction
and no price can be missing: received is the sum of all others. docs/decisions/015 has the rules.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from streaming_app.answer_owners import keep_owners_answers
from streaming_app.settings import LiveMetricsSettings

COUNTS = (
    "received",
    "behind_watermark",
    "duplicates",
    "contradictory",
    "orphans",
    "late",
    "rejected",
    "requests",
    "requests_priced",
)
_ANSWER = (
    "type STRING, request_id STRING, price DOUBLE, model_version STRING, generation BIGINT, "
    "source_partition INT, source_offset BIGINT"
)
_MEASURES = ("predicted", "set_price", "delay")  # of a price in time


def read_answers(records: DataFrame) -> DataFrame:
    """Read the answers of raw Kafka records.

    Columns: type, request_id, predicted (USD, null for a rejection), model_version, generation,
    source_partition, source_offset, answer_partition, answer_offset, answered_at (of the Kafka record: the
    brokers bound how wrong it can be).
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


def entries(
    answers: DataFrame, prices: DataFrame, takeovers: DataFrame, settings: LiveMetricsSettings
) -> DataFrame:
    """Judge each price of `prices` (as of messages.set_prices) by the `answers` (as of read_answers).

    Both have watermarks. Columns: at (event time with a watermark), model_version (null where no answer is
    known), predicted and set_price (USD) and delay (seconds) of a price in time, and the COUNTS.
    """
    received = prices.select(*_entry("priced_at", received=1, behind_watermark=1))
    return received.unionAll(_first_seen(answers, prices)).unionAll(
        _answered(answers, prices, takeovers, settings)
    )


def _entry(at: str, version: str | None = None, **counts: int) -> list[Column]:
    return [
        sf.col(at).alias("at"),
        (sf.lit(None).cast("string") if version is None else sf.col(version)).alias("model_version"),
        *(sf.lit(None).cast("double").alias(measure) for measure in _MEASURES),
        *(sf.lit(counts.get(count)).cast("bigint").alias(count) for count in COUNTS),
    ]


def _first_seen(answers: DataFrame, prices: DataFrame) -> DataFrame:
    """Tell what is new from what repeats, prices and answers in one operator: each row waits under a key."""
    steps = (
        _step("message", ("partition", "offset"), behind_watermark=-1, duplicates=1),
        _step("price", ("request_id", "set_price"), duplicates=-1, contradictory=1),
        _step("request", ("request_id",), contradictory=-1, orphans=1),
    )
    priced = prices.withColumn("model_version", sf.lit(None).cast("string")).select(
        *_entry("priced_at")[:1], "model_version", sf.inline(sf.array(*steps))
    )
    answered = answers.where("type = 'price'").select(
        sf.col("answered_at").alias("at"),
        "model_version",
        sf.inline(sf.array(_step("answer", ("request_id",), requests=1))),
    )
    return (
        priced.unionAll(answered)
        .dropDuplicatesWithinWatermark(["key"])
        .select("at", "model_version", *(sf.lit(None).cast("double").alias(m) for m in _MEASURES), *COUNTS)
    )


def _step(name: str, identity: tuple[str, ...], **counts: int) -> Column:
    return sf.struct(
        sf.concat_ws(" ", sf.lit(name), *identity).alias("key"),
        *(sf.lit(counts.get(count)).cast("bigint").alias(count) for count in COUNTS),
    )


def _answered(
    answers: DataFrame, prices: DataFrame, takeovers: DataFrame, settings: LiveMetricsSettings
) -> DataFrame:
    """Move the first price of each answered request on: it is in time, late, or of a rejected request."""
    prices = prices.select(sf.col("request_id").alias("priced_id"), "set_price", "priced_at")
    joined = answers.join(
        prices,
        sf.expr(
            "request_id = priced_id "
            f"AND priced_at >= answered_at - INTERVAL {settings.live_metrics_lateness} "
            f"AND priced_at <= answered_at + INTERVAL {settings.live_metrics_answers_kept}"
        ),
    ).withColumns(
        {
            "rejected": sf.col("type") == "rejection",
            "late": sf.expr(f"priced_at > answered_at + INTERVAL {settings.live_metrics_price_delay}"),
            # A number: an operator takes one column with a watermark.
            "answered_micros": sf.unix_micros("answered_at"),
        }
    )
    judged = (
        keep_owners_answers(joined.drop("answered_at"), takeovers)
        .dropDuplicatesWithinWatermark(["request_id"])
        .withColumns(
            {
                "in_time": ~sf.col("rejected") & ~sf.col("late"),
                "delay": sf.greatest(
                    sf.lit(0.0), (sf.unix_micros("priced_at") - sf.col("answered_micros")) / 1e6
                ),
            }
        )
    )

    def one(when: Column) -> Column:
        return sf.when(when, sf.lit(1)).cast("bigint")

    nothing = {count: sf.lit(None).cast("bigint") for count in COUNTS}
    of_price = {
        **nothing,
        "rejected": one(sf.col("rejected")),
        "late": one(~sf.col("rejected") & sf.col("late")),
        "requests_priced": sf.lit(None).cast("bigint"),
    }
    orphan_no_more = {**nothing, "orphans": sf.lit(-1).cast("bigint")}
    of_request = {**nothing, "requests_priced": one(sf.col("in_time"))}
    version = sf.col("model_version")
    no_version = sf.lit(None).cast("string")
    answered_at = sf.timestamp_micros("answered_micros")

    def row(at: Column, version: Column, measured: bool, counts: dict[str, Column]) -> Column:
        return sf.struct(
            at.alias("at"),
            version.alias("model_version"),
            *(
                sf.when(sf.col("in_time") & sf.lit(measured), sf.col(m)).cast("double").alias(m)
                for m in _MEASURES
            ),
            *(counts[count].alias(count) for count in COUNTS),
        )

    return judged.select(
        sf.inline(
            sf.array(
                row(sf.col("priced_at"), version, True, of_price),
                row(sf.col("priced_at"), no_version, False, orphan_no_more),
                row(answered_at, version, False, of_request),
            )
        )
    )
