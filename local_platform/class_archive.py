"""An archive of the classes that Spark's processes load: each of them starts sooner, with half the work.

Java's class data sharing, with a dynamic archive (https://openjdk.org/jeps/350): one process loads what one
with Spark usually does and leaves the parsed classes behind at its end, others map that file. A JVM whose
class path differs, or that finds no archive, goes on without.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from local_platform.jars import spark_jars
from local_platform.processes import locked

# What the platform's Spark processes have in common. It ends once the JVM has written its archive.
_WORK = """
import sys, tempfile
from pyspark import SparkContext
from pyspark.ml import PipelineModel
from pyspark.ml.feature import SQLTransformer, VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import SparkSession

spark = (
    SparkSession.builder.master("local[1]").config("spark.driver.memory", "512m")
    .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 " + sys.argv[1])
    .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "2").getOrCreate()
)
with tempfile.TemporaryDirectory() as folder:
    rows = spark.range(100).selectExpr("id", "CAST(id AS STRING) AS text", "id * 2.5D AS number")
    rows.selectExpr("id", "to_json(struct(text, number)) AS json").write.parquet(folder + "/rows")
    rows.write.option("header", True).csv(folder + "/csv")
    spark.read.option("header", True).option("multiLine", True).csv(folder + "/csv").count()
    stored = spark.read.parquet(folder + "/rows")
    stored.selectExpr("*", "from_json(json, 'number DOUBLE') AS parsed").createOrReplaceTempView("stored")
    spark.sql(
        "SELECT a.id, row_number() OVER (PARTITION BY a.id % 7 ORDER BY a.json), max(b.parsed.number) "
        "FROM stored a JOIN stored b USING (id) GROUP BY a.id, a.json"
    ).persist().collect()
    assembler = VectorAssembler(inputCols=["number"], outputCol="v")
    stages = [SQLTransformer(statement="SELECT * FROM __THIS__"), assembler]
    vectors = PipelineModel(stages).transform(rows)
    model = PipelineModel([*stages, LinearRegression(featuresCol="v", labelCol="number").fit(vectors)])
    model.write().save(folder + "/model")
    PipelineModel.load(folder + "/model").transform(rows).collect()
    query = (
        spark.readStream.format("rate").load().groupBy("value").count().writeStream.outputMode("update")
        .format("noop").option("checkpointLocation", folder + "/state").trigger(availableNow=True).start()
    )
    query.awaitTermination()
gateway = SparkContext._gateway
spark.stop()
gateway.proc.stdin.close()
sys.exit(gateway.proc.wait())
"""


def class_archive(jars_folder: Path, java: str) -> Path:
    """Where the archive for this Java and the installed Spark lies, or would lie."""
    release = Path(java).resolve().parent.parent / "release"
    described = [java, release.read_text() if release.is_file() else ""]
    # Java checks size and time of each jar: an archive of others is of no use.
    for jar in spark_jars():
        stored = jar.stat()
        described.append(f"{jar.name} {stored.st_size} {stored.st_mtime_ns}")
    digest = hashlib.sha256("\n".join(described).encode()).hexdigest()[:16]
    return jars_folder / "spark-classes" / f"{digest}.jsa"


def make_class_archive(jars_folder: Path, java: str) -> bool:
    """Make the archive unless there is one; whether it was made. Calls at the same time wait for each other.

    That it can't be made (an old kernel, no room) is no failure: the processes start without it.
    """
    archive = class_archive(jars_folder, java)
    with locked(archive.parent / ".lock"):
        if archive.is_file():
            return False
        for former in archive.parent.glob("*.jsa*"):
            former.unlink()
        attempt = archive.with_suffix(".jsa.part")
        environment = {**os.environ, "JAVA_HOME": str(Path(java).resolve().parent.parent)}
        environment.pop("JDK_JAVA_OPTIONS", None)
        made = subprocess.run(
            [sys.executable, "-c", _WORK, f"-XX:ArchiveClassesAtExit={attempt}"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode or not attempt.is_file():
            (archive.parent / "spark-classes.log").write_text(made.stdout + made.stderr)
            return False
        attempt.replace(archive)
        return True


def with_class_archive(archive: Path) -> dict[str, str]:
    """What a process that starts Spark finds in its environment, beside the options that are there."""
    given = os.environ.get("JDK_JAVA_OPTIONS", "")
    if "-XX:SharedArchiveFile" in given:
        return {"JDK_JAVA_OPTIONS": given}
    silent = "-Xlog:cds=off -Xlog:cds+dynamic=off"  # of a JVM that can't use it, on its standard output
    return {"JDK_JAVA_OPTIONS": f"{given} -XX:SharedArchiveFile={archive} {silent}".strip()}
