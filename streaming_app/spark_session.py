"""Spark sessions of the streaming application."""

from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from streaming_app.kafka_access import for_spark
from streaming_app.settings import KafkaSettings

# Out of memory the process must die, so that another one takes over, and not linger half alive.
_JVM_OPTIONS = "-XX:+ExitOnOutOfMemoryError -XX:+PerfDisableSharedMem"
# Also where the JVM would choose the serial collector (few cores, small memory).
SHORT_PAUSES = "-XX:+UseG1GC -XX:MaxGCPauseMillis=20"
"""Of the JVM's memory, at the expense of some processor time."""

_JVM_LOG = Path(__file__).with_name("log4j2.properties")


class MissingJarsError(Exception):
    """The Kafka connector jars for Spark are not where they should be."""


def start_spark(name: str, master: str, driver_memory: str, jars: Path, jvm_options: str) -> SparkSession:
    """Start the process's Spark session, with the Kafka connector of the folder `jars`.

    The JVM ends with this process, however this one ends: its gateway exits at the end of its standard
    input. Raises MissingJarsError when the connector is not in the folder.
    """
    found = sorted(str(jar.absolute()) for jar in jars.glob("*.jar"))
    if not any("spark-sql-kafka" in jar for jar in found):
        raise MissingJarsError(
            f"no Kafka connector for Spark in {jars.absolute()}: "
            "name the folder that holds spark-sql-kafka and its jars in USEDCARS_SPARK_JARS"
        )
    builder = SparkSession.builder.appName(name)
    if master.startswith("local"):
        builder = builder.config("spark.driver.host", "127.0.0.1").config(
            "spark.driver.bindAddress", "127.0.0.1"
        )
    return (
        builder.master(master)
        .config("spark.jars", ",".join(found))
        .config("spark.driver.memory", driver_memory)
        .config(
            "spark.driver.extraJavaOptions",
            f"{_JVM_OPTIONS} {jvm_options} -Dlog4j2.configurationFile={_JVM_LOG.as_uri()}",
        )
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        # What Spark keeps to show of jobs and plans that have ended nobody looks at; with its defaults it is
        # a third of what live metrics have in use.
        .config("spark.ui.retainedJobs", "20")
        .config("spark.ui.retainedStages", "20")
        .config("spark.ui.retainedTasks", "100")
        .config("spark.sql.ui.retainedExecutions", "5")
        .config("spark.sql.session.timeZone", "UTC")
        # What would throw on a strange value gives null instead: no message may stop the query.
        .config("spark.sql.ansi.enabled", "false")
        # The JVM does not compile methods of more bytecode; Spark then splits them, and answers in two thirds
        # of the time.
        .config("spark.sql.codegen.hugeMethodLimit", "8000")
        # Spark keeps 100 pieces of compiled code by default; a round of the live metrics' batches has more,
        # and each would be compiled anew in every round.
        .config("spark.sql.codegen.cache.maxEntries", "2000")
        # Each batch of a query tells its plan, and with the adaptive one plans anew after each stage, for
        # nobody: batches are small, and their plans the same.
        .config("spark.sql.ui.explainMode", "simple")
        .config("spark.sql.adaptive.enabled", "false")
        # A task that has started is seen at once. Else it is with the next event, which in a query of tasks
        # that never end is a heartbeat ten seconds later: a process that answers was not ready for so long.
        .config("spark.ui.liveUpdate.period", "0")
        # A task is never run twice: a repeated task would repeat answers.
        .config("spark.task.maxFailures", "1")
        .getOrCreate()
    )


READING = {
    # Outages of Kafka and what retention takes away are endured.
    "failOnDataLoss": "false",
    "fetchOffset.numRetries": "600",
    # After each fetch Spark asks for the ends of the partition, and the broker answers that behind the next
    # fetch, which at the end of a topic waits for records that are not to be read: half a second a partition.
    "kafka.fetch.max.wait.ms": "10",
}
"""Options of Spark's Kafka source where it reads batches."""


def read_topic(
    spark: SparkSession, settings: KafkaSettings, topic: str, records_per_batch: int | None = None
) -> DataFrame:
    """Follow a topic from its first record on, through outages of Kafka and what retention takes away."""
    reader = (
        spark.readStream.format("kafka")
        .options(**for_spark(settings))
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .options(**READING)
    )
    if records_per_batch is not None:
        reader = reader.option("maxOffsetsPerTrigger", records_per_batch)
    return reader.load()
