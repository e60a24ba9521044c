"""The application's own Java: what Spark calls for each row, and pyspark has nothing for.

Janino, with which Spark compiles the code it generates, compiles the sources in the process (a tenth of a
second): there is no build, no jar, no second tool chain.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyspark.sql import SparkSession


def java_classes(spark: SparkSession) -> Any:
    """The package of the classes, as py4j shows it.

    They are known to the tasks of this JVM only: serving's tasks run in its own (`local[…]`).
    """
    return _defined(spark.sparkContext._jvm)


@cache  # once a JVM: each compilation would make classes of its own, which the JVM would have to warm up with
def _defined(jvm: Any) -> Any:
    # Spark's, which is also the parent of that of its tasks.
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    with TemporaryDirectory(prefix="usedcars-classes-") as folder:
        names = []
        for source in sorted(Path(__file__).parent.glob("*.java")):
            compiler = jvm.org.codehaus.janino.SimpleCompiler()
            compiler.setParentClassLoader(loader)
            compiler.cook(source.read_text())
            compiled = compiler.getBytecodes()
            for name in compiled:
                file = Path(folder, *name.split(".")).with_suffix(".class")
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(compiled[name])
                names.append(name)
        loader.addURL(jvm.java.io.File(folder).toURI().toURL())
        for name in names:
            loader.loadClass(name)  # while the files are there
    return jvm.usedcars
