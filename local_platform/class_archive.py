"""An archive of the classes that Spark's processes load: each of them starts sooner, with half the work.

Java's class data sharing, with a dynamic archive (https://openjdk.org/jeps/350): one process loads what one
with Spark usually does and leaves the parsed classes behind at its end, others map that file. A JVM whose
class path begins otherwise, or that finds no archive, goes on without.

So that all begin alike, whatever folder of settings comes next, and in which order Java reads a folder of
jars, the first on the class path is a jar beside the archive whose manifest names all others.
"""

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile, ZipInfo

from local_platform.jars import locked_jars, spark_jars
from local_platform.processes import locked

# What the platform's Spark processes have in common; all classes of the Kafka connector by their names, as
# there is no broker. It ends once the JVM has written its archive.
_WORK = """
import sys, tempfile
from zipfile import ZipFile
from py4j.protocol import Py4JJavaError
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
load = spark._jvm.java.lang.Class.forName
loader = spark._jvm.java.lang.Thread.currentThread().getContextClassLoader()
for jar in sys.argv[2:]:
    for name in ZipFile(jar).namelist():
        if name.endswith(".class") and "-" not in name:
            try:
                load(name.removesuffix(".class").replace("/", "."), False, loader)
            except Py4JJavaError:  # it wants a library that is not there
                pass
gateway = SparkContext._gateway
spark.stop()
gateway.proc.stdin.close()
sys.exit(gateway.proc.wait())
"""


# Stands in for Java where Spark's scripts start it, and gives it another class path.
_JAVA = """#!/bin/bash
arguments=("$@")
if [[ " $* " != *" org.apache.spark.launcher.Main "* ]]; then
  for ((n = 0; n < $#; n++)); do
    if [ "${{arguments[n]}}" = -cp ]; then arguments[n + 1]='{class_path}'; break; fi
  done
fi
exec '{java}' "${{arguments[@]}}"
"""


def class_archive(jars_folder: Path, java: str) -> Path:
    """Where the archive for this Java and the installed Spark lies, or would lie."""
    release = Path(java).resolve().parent.parent / "release"
    described = [java, release.read_text() if release.is_file() else "", str(jars_folder.absolute()), _WORK]
    described += [jar.sha256 for jar in locked_jars("spark-kafka")]
    # Java checks size and time of each jar: an archive of others is of no use.
    for jar in spark_jars():
        stored = jar.stat()
        described.append(f"{jar} {stored.st_size} {stored.st_mtime_ns}")
    digest = hashlib.sha256("\n".join(described).encode()).hexdigest()[:16]
    return jars_folder.absolute() / "spark-classes" / f"{digest}.jsa"


def make_class_archive(jars_folder: Path, java: str) -> bool:
    """Make the archive unless there is one; whether it was made. Calls at the same time wait for each other.

    That it can't be made (an old kernel, no room) is no failure: the processes start without it.
    """
    archive = class_archive(jars_folder, java)
    with locked(archive.parent / ".lock"):
        if archive.is_file():
            return False
        for former in archive.parent.glob("*.j*"):
            former.unlink()
        if (failed := write_class_archive(archive, jars_folder, java)) is not None:
            (archive.parent / "spark-classes.log").write_text(failed)
        return failed is None


def write_class_archive(archive: Path, jars_folder: Path, java: str) -> str | None:
    """Write an archive, and the jar beside it that begins the class path; what was said when it failed.

    Spark's Kafka connector lies in the folder of jars.
    """
    connector = [jars_folder / "spark-kafka" / jar.file_name for jar in locked_jars("spark-kafka")]
    _write_class_path(first := _class_path(archive), [*connector, *spark_jars()])
    attempt = archive.with_suffix(".jsa.part")
    with TemporaryDirectory(prefix="usedcars-java-") as java_home:
        stand_in = Path(java_home, "bin", "java")
        stand_in.parent.mkdir()
        stand_in.write_text(_JAVA.format(class_path=first, java=Path(java).resolve()))
        stand_in.chmod(0o755)
        # A machine that can't find itself by its name can make it all the same.
        environment = {**os.environ, "JAVA_HOME": java_home, "SPARK_LOCAL_IP": "127.0.0.1"}
        for options in ("JDK_JAVA_OPTIONS", "PYSPARK_SUBMIT_ARGS"):
            environment.pop(options, None)
        made = subprocess.run(
            [sys.executable, "-c", _WORK, f"-XX:ArchiveClassesAtExit={attempt}", *map(str, connector)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if made.returncode or not attempt.is_file():
        return made.stdout + made.stderr
    attempt.replace(archive)
    return None


def _class_path(archive: Path) -> Path:
    return archive.with_suffix(".jar")


def _write_class_path(jar: Path, others: list[Path]) -> None:
    """A jar that holds nothing but the names of others, seen from where it lies."""
    names = " ".join(os.path.relpath(other, jar.parent) for other in others)
    line = f"Class-Path: {names}"
    # A line has 72 bytes, with its break; what goes on in the next begins with a blank.
    lines = [line[:70], *(f" {line[start : start + 69]}" for start in range(70, len(line), 69))]
    manifest = "\r\n".join(("Manifest-Version: 1.0", *lines, "", ""))
    jar.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(jar, "w") as content:
        content.writestr(ZipInfo("META-INF/MANIFEST.MF"), manifest)


def with_class_archive(archive: Path) -> dict[str, str]:
    """What a process that starts Spark finds in its environment, beside the options that are there.

    It then has no `spark.driver.extraClassPath` of its own: what it wants beside, it names in `spark.jars`.
    """
    given = os.environ.get("JDK_JAVA_OPTIONS", "")
    if "-XX:SharedArchiveFile" in given:
        return {"JDK_JAVA_OPTIONS": given}
    # Where it was made for: elsewhere, as some Javas have it by default, each process would change all of its
    # pages, and so have them for itself.
    in_place = "-XX:+UnlockDiagnosticVMOptions -XX:ArchiveRelocationMode=0"
    silent = "-Xlog:cds=off -Xlog:cds+dynamic=off"  # of a JVM that can't use it, on its standard output
    first = f"--driver-class-path {shlex.quote(str(_class_path(archive)))}"
    return {
        "JDK_JAVA_OPTIONS": f"{given} -XX:SharedArchiveFile={archive} {in_place} {silent}".strip(),
        "PYSPARK_SUBMIT_ARGS": f"{first} {os.environ.get('PYSPARK_SUBMIT_ARGS', 'pyspark-shell')}",
    }
