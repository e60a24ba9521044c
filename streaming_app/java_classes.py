"""The application's own Java: what Spark calls for each row, and pyspark has nothing for.

Janino, with which Spark compiles the code it generates, compiles the sources in the process (a tenth of a
second): there is no build, no jar, no second tool chain.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyspark.sql import Column, SparkSession
from pyspark.sql.classic.column import Column as JvmColumn
from pyspark.sql.types import DataType


def java_classes(spark: SparkSession) -> Any:
    """The package of the classes, as py4j shows it.

    They are known to the tasks of this JVM only: serving's tasks run in its own (`local[…]`).
    """
    return _defined(spark.sparkContext._jvm)


def called(
    spark: SparkSession, target: Any, method: str, returns: DataType, arguments: Sequence[Column]
) -> Column:
    """What a method of an object in the JVM gives, called from the code that Spark generates.

    The object is serialised with the plan, and its method gives the same for the same arguments; null for
    null.
    """
    call = java_classes(spark).Calls.of(target, method, *_typed(spark, returns, arguments))
    return JvmColumn(call)


def called_anew(
    spark: SparkSession, owner: str, method: str, returns: DataType, arguments: Sequence[Column] = ()
) -> Column:
    """What a static method gives, called anew for each row."""
    calls = java_classes(spark).Calls  # first, as it makes our own classes known to the loader
    found = _loader(spark.sparkContext._jvm).loadClass(owner)
    return JvmColumn(calls.anew(found, method, *_typed(spark, returns, arguments)))


def _typed(spark: SparkSession, returns: DataType, arguments: Sequence[Column]) -> tuple[Any, Any]:
    jvm: Any = spark.sparkContext._jvm
    columns = _array(jvm, "org.apache.spark.sql.Column", [argument._jc for argument in arguments])
    return jvm.org.apache.spark.sql.types.DataType.fromJson(returns.json()), columns


@cache  # once a JVM: each compilation would make classes of its own, which the JVM would have to warm up with
def _defined(jvm: Any) -> Any:
    loader = _loader(jvm)
    sources = sorted(Path(__file__).parent.glob("*.java"))
    with TemporaryDirectory(prefix="usedcars-classes-") as folder:
        compiler = jvm.org.codehaus.janino.Compiler()
        compiler.setIClassLoader(jvm.org.codehaus.janino.ClassLoaderIClassLoader(loader))
        compiler.setDestinationDirectory(jvm.java.io.File(folder), False)
        compiler.compile(_array(jvm, "java.io.File", [jvm.java.io.File(str(source)) for source in sources]))
        loader.addURL(jvm.java.io.File(folder).toURI().toURL())
        for compiled in Path(folder).rglob("*.class"):  # while the files are there
            loader.loadClass(".".join(compiled.relative_to(folder).with_suffix("").parts))
    return jvm.usedcars


def _loader(jvm: Any) -> Any:
    """Spark's, which is also the parent of that of its tasks."""
    return jvm.java.lang.Thread.currentThread().getContextClassLoader()


def _array(jvm: Any, kind: str, values: Sequence[Any]) -> Any:
    array = jvm.java.lang.reflect.Array.newInstance(_loader(jvm).loadClass(kind), len(values))
    for place, value in enumerate(values):
        array[place] = value
    return array
