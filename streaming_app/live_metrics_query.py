"""The query of live metrics: how far the answered prices are from those set later, per model version."""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.streaming.query import StreamingQuery

from streaming_app.answer_owners import read_takeovers
from streaming_app.instants import INSTANT
from streaming_app.kafka_access import for_spark
from streaming_app.messages import set_prices
from streaming_app.price_rules import OUTCOMES, moves, read_answers
from streaming_app.settings import LiveMetricsSettings
from streaming_app.spark_session import read_topic

ALL_VERSIONS = "all"

# Of these no answer, and so no version is known.
_OF_ALL = ("behind_watermark", "duplicates", "contradictory", "orphans")
_ACCOUNTS = (*OUTCOMES, "requests", "requests_priced")
# The window of the totals: it is never late for anything, and never over.
_ALWAYS = "named_struct('start', TIMESTAMP '1970-01-01', 'end', TIMESTAMP '9999-01-01')"
# Named anew when the state changes: what a former release has left can't be gone on with.
_STATE = "figures-4"
# What Spark marks an event time with, here once more where an expression has hidden it: without the mark no
# window would ever be over, and the state would grow for ever.
_EVENT_TIME = {"spark.watermarkDelayMs": 0}


def live_metrics(moves: DataFrame, settings: LiveMetricsSettings) -> DataFrame:
    """Sum the moves (as of price_rules.moves) by window and model version, and over all time.

    What is told of a price belongs to the windows of the price's own time; `requests` and `requests_priced`
    to those of the answer. Of the windows that hold the last event only the one that ends first is kept, the
    figures of a whole window's length. Versions together are the version `all`, and only there is what is
    known of no answer. Columns: window_start and window_end (null over all time), model_version, count,
    mae, rmse, bias and median_absolute_error (USD), mape (a fraction), r2; interval_coverage (the share of
    the prices inside the interval that was answered, null without any); delay_mean, delay_p50, delay_p90
    and delay_p99 (seconds from the answer to the price); late, rejected, requests, requests_priced and
    priced_share (of the requests, so far); and of `all` received, behind_watermark, duplicates,
    contradictory and orphans.
    """
    error = sf.col("predicted") - sf.col("set_price")
    window = sf.window("at", settings.live_metrics_window, settings.live_metrics_slide)
    always = sf.expr(_ALWAYS)
    # Each event once in the window of the totals: beside the last one of those it is in.
    last_of_its_windows = sf.expr(f"window.start > at - INTERVAL {settings.live_metrics_slide}")
    window_end = sf.col("window.end")
    endless = window_end == always["end"]
    return (
        moves.withColumn("window", window)
        .withColumn("window", _plain("window"))
        .withColumn(
            "window",
            sf.explode(
                sf.when(last_of_its_windows, sf.array("window", always)).otherwise(sf.array("window"))
            ),
        )
        .withColumn("window", sf.col("window").alias("window", metadata=_EVENT_TIME))
        .withColumn(
            "model_version",
            sf.explode(
                sf.when(sf.col("model_version").isNull(), sf.array(sf.lit(ALL_VERSIONS))).otherwise(
                    sf.array("model_version", sf.lit(ALL_VERSIONS))
                )
            ),
        )
        .groupBy("window", "model_version")
        .agg(
            sf.avg(sf.abs(error)).alias("mae"),
            sf.sqrt(sf.avg(error * error)).alias("rmse"),
            sf.avg(error).alias("bias"),
            sf.percentile_approx(sf.abs(error), 0.5, 1000).alias("median_absolute_error"),
            sf.avg(sf.abs(error) / sf.col("set_price")).alias("mape"),
            sf.avg(error * error).alias("mean_square"),
            sf.var_pop("set_price").alias("variance"),
            sf.avg("inside").alias("interval_coverage"),
            sf.avg("delay").alias("delay_mean"),
            sf.percentile_approx("delay", [0.5, 0.9, 0.99], 1000).alias("delays"),
            *(_balance(account).alias(account) for account in _ACCOUNTS),
            _into("behind_watermark").alias("received"),
            sf.max("at").alias("last_at"),
        )
        .where(endless | sf.expr(f"last_at >= window.end - INTERVAL {settings.live_metrics_slide}"))
        .select(
            sf.when(~endless, sf.date_format("window.start", INSTANT)).alias("window_start"),
            sf.when(~endless, sf.date_format("window.end", INSTANT)).alias("window_end"),
            "model_version",
            sf.col("in_time").alias("count"),
            "mae",
            "rmse",
            "mape",
            "bias",
            "median_absolute_error",
            sf.when(sf.col("variance") > 0, 1 - sf.col("mean_square") / sf.col("variance")).alias("r2"),
            "interval_coverage",
            "late",
            "rejected",
            "requests",
            "requests_priced",
            sf.when(sf.col("requests") > 0, sf.col("requests_priced") / sf.col("requests")).alias(
                "priced_share"
            ),
            "delay_mean",
            *(sf.col("delays")[n].alias(f"delay_p{p}") for n, p in enumerate((50, 90, 99))),
            *(
                sf.when(sf.col("model_version") == ALL_VERSIONS, sf.col(count)).alias(count)
                for count in ("received", *_OF_ALL)
            ),
        )
    )


def _into(account: str) -> Column:
    return sf.count_if(sf.col("into") == account)


def _balance(account: str) -> Column:
    return _into(account) - sf.count_if(sf.col("out_of") == account)


def _plain(window: str) -> Column:
    return sf.struct(sf.col(f"{window}.start").alias("start"), sf.col(f"{window}.end").alias("end"))


def start_live_metrics(spark: SparkSession, settings: LiveMetricsSettings) -> StreamingQuery:
    """Start to publish the live metrics, from where the checkpoint stands, else from the first message."""
    # The watermarks are those of all messages: they pass also while nobody sets a price.
    requests = read_topic(spark, settings, settings.requests_topic).withWatermark(
        "timestamp", settings.live_metrics_price_delay
    )
    predictions = read_topic(spark, settings, settings.predictions_topic).withWatermark(
        "timestamp", settings.live_metrics_lateness
    )
    figures = live_metrics(
        moves(
            read_answers(predictions),
            set_prices(requests, settings.max_message_bytes),
            read_takeovers(spark, settings),
            settings,
        ),
        settings,
    )
    # The clock itself: current_timestamp() is a new constant in each batch, for which code is compiled anew.
    clock = sf.reflect(sf.lit("java.lang.System"), sf.lit("currentTimeMillis"))
    now = sf.timestamp_millis(clock.cast("bigint"))
    of_window = sf.col("window_end").isNotNull()
    return (
        figures.select(
            sf.when(of_window, sf.lit(settings.live_metrics_topic))
            .otherwise(sf.lit(settings.live_totals_topic))
            .alias("topic"),
            sf.concat_ws(" ", "model_version", "window_start").alias("key"),
            sf.to_json(
                sf.struct("*", sf.date_format(now, INSTANT).alias("updated_at")),
                {"ignoreNullFields": "false"},
            ).alias("value"),
        )
        .writeStream.queryName("live-metrics")
        .format("kafka")
        .options(**for_spark(settings))
        .option("kafka.compression.type", "none")
        .option("checkpointLocation", settings.checkpoint(_STATE))
        .outputMode("update")
        .trigger(processingTime=settings.live_metrics_trigger)
        .start()
    )
