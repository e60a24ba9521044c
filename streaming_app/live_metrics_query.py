"""The query of live metrics: how far the answered prices are from those set later, per model version."""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.streaming.query import StreamingQuery

from streaming_app.messages import set_prices
from streaming_app.settings import LiveMetricsSettings

ALL_VERSIONS = "all"

_ANSWER = "type STRING, request_id STRING, price DOUBLE, model_version STRING"
_INSTANT = "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"


def answered_prices(records: DataFrame) -> DataFrame:
    """Read the answered prices of raw Kafka records: request_id, predicted (USD), model_version, answered_at.

    Times are those of the Kafka records: the brokers bound how wrong they can be.
    """
    answer = sf.from_json(sf.col("value").cast("string"), _ANSWER)
    return (
        records.select(answer.alias("answer"), sf.col("timestamp").alias("answered_at"))
        .where("answer.type = 'price' AND answer.request_id IS NOT NULL AND answer.price > 0")
        .select(
            "answer.request_id",
            sf.col("answer.price").alias("predicted"),
            "answer.model_version",
            "answered_at",
        )
    )


def live_metrics(answered: DataFrame, prices: DataFrame, settings: LiveMetricsSettings) -> DataFrame:
    """Join answers with the prices set for them, and measure the error by window and model version.

    `answered` as of answered_prices, `prices` with request_id, set_price (USD), priced_at. A price counts in
    the windows of its own time, and only the first one of a request counts. Of the windows that hold the last
    price only the one that ends first is kept, the figures of a whole window's length. Versions together are
    the version `all`. Columns: window_start, window_end, model_version, count, mae, rmse, bias and
    median_absolute_error (USD), mape (a fraction), r2.
    """
    lateness = settings.live_metrics_lateness
    answered = answered.withWatermark("answered_at", lateness)
    first_prices = (
        prices.withWatermark("priced_at", settings.live_metrics_price_delay)
        .dropDuplicatesWithinWatermark(["request_id"])
        .withColumnRenamed("request_id", "priced_request_id")
    )
    error = sf.col("predicted") - sf.col("set_price")
    priced = answered.join(
        first_prices,
        sf.expr(
            "request_id = priced_request_id "
            f"AND priced_at >= answered_at - INTERVAL {lateness} "
            f"AND priced_at <= answered_at + INTERVAL {settings.live_metrics_price_delay}"
        ),
    )
    return (
        priced.withColumn(
            "model_version", sf.explode(sf.array(sf.col("model_version"), sf.lit(ALL_VERSIONS)))
        )
        .groupBy(
            sf.window("priced_at", settings.live_metrics_window, settings.live_metrics_slide),
            "model_version",
        )
        .agg(
            sf.count("*").alias("count"),
            sf.avg(sf.abs(error)).alias("mae"),
            sf.sqrt(sf.avg(error * error)).alias("rmse"),
            sf.avg(error).alias("bias"),
            sf.percentile_approx(sf.abs(error), 0.5, 1000).alias("median_absolute_error"),
            sf.avg(sf.abs(error) / sf.col("set_price")).alias("mape"),
            sf.avg(error * error).alias("mean_square"),
            sf.var_pop("set_price").alias("variance"),
            sf.max("priced_at").alias("last_priced_at"),
        )
        .where(f"last_priced_at >= window.end - INTERVAL {settings.live_metrics_slide}")
        .select(
            sf.date_format("window.start", _INSTANT).alias("window_start"),
            sf.date_format("window.end", _INSTANT).alias("window_end"),
            "model_version",
            "count",
            "mae",
            "rmse",
            "mape",
            "bias",
            "median_absolute_error",
            sf.when(sf.col("variance") > 0, 1 - sf.col("mean_square") / sf.col("variance")).alias("r2"),
        )
    )


def start_query(spark: SparkSession, settings: LiveMetricsSettings) -> StreamingQuery:
    """Start to publish the live metrics, from where the checkpoint stands, else from the first message."""

    def records(topic: str) -> DataFrame:
        return (
            spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", settings.kafka_bootstrap_servers)
            .option("subscribe", topic)
            .option("startingOffsets", "earliest")
            .option("failOnDataLoss", "false")
            .option("fetchOffset.numRetries", "600")
            .load()
        )

    requests = records(settings.requests_topic)
    prices = set_prices(requests, settings.max_message_bytes).select("request_id", "set_price", "priced_at")
    figures = live_metrics(answered_prices(records(settings.predictions_topic)), prices, settings)
    return (
        figures.select(
            sf.concat_ws(" ", "model_version", "window_start").alias("key"),
            sf.to_json(
                sf.struct("*", sf.date_format(sf.current_timestamp(), _INSTANT).alias("updated_at")),
                {"ignoreNullFields": "false"},
            ).alias("value"),
        )
        .writeStream.queryName("live-metrics")
        .format("kafka")
        .option("kafka.bootstrap.servers", settings.kafka_bootstrap_servers)
        .option("topic", settings.live_metrics_topic)
        .option("kafka.compression.type", "none")
        .option("checkpointLocation", settings.checkpoint.absolute().as_uri())
        .outputMode("update")
        .trigger(processingTime=settings.live_metrics_trigger)
        .start()
    )
