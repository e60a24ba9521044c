"""The Spark configuration that the pipeline relies on."""


def spark_settings(
    *, shuffle_partitions: int = 4, hdfs_user: str = "usedcars", replication: int = 1
) -> dict[str, str]:
    """Settings for the session that all assets of one run share.

    shuffle_partitions: upper bound of tasks after a shuffle; adaptive execution joins small ones, so
        about twice the cores is right on one machine, more on a cluster.
    hdfs_user: the name that HDFS sees, for drivers and executors alike.
    replication: copies of each block that this client asks HDFS for.
    """
    return {
        "spark.scheduler.mode": "FAIR",
        # It plans a query anew after each of its stages: a tenth of a small training. What it saves is on a
        # cluster, and there it is turned on.
        "spark.sql.adaptive.enabled": "false",
        # The JVM does not compile methods of more bytecode; Spark then splits them, and runs twice as fast.
        "spark.sql.codegen.hugeMethodLimit": "8000",
        # Spark keeps 100 pieces of compiled code by default; a training has more, and comes back to them.
        "spark.sql.codegen.cache.maxEntries": "2000",
        # Its default, said: else for each value of an array, as where it looks for NaN in the features, Spark
        # asks the environment whether this is one of its own tests.
        "spark.sql.types.framework.enabled": "false",
        "spark.sql.shuffle.partitions": str(shuffle_partitions),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.hadoop.dfs.replication": str(replication),
        "spark.hadoop.dfs.client.block.write.replace-datanode-on-failure.policy": "NEVER",
        # A file is closed once its last block is reported, a few ms after it is written: the client asks
        # again, after 400 ms by default.
        "spark.hadoop.dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "10",
        "spark.hadoop.dfs.client.block.write.locateFollowingBlock.retries": "10",
        "spark.executorEnv.HADOOP_USER_NAME": hdfs_user,
        "spark.ui.showConsoleProgress": "false",
        # Each query tells its plan; the whole of it costs more than many a query.
        "spark.sql.ui.explainMode": "simple",
    }
