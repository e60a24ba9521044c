"""The Spark session that all assets of a run share."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckExecutionContext,
    AssetExecutionContext,
    InitResourceContext,
    OpExecutionContext,
)
from dagster_pyspark import LazyPySparkResource
from dagster_pyspark.resources import spark_session_from_config
from pydantic import Field, PrivateAttr

from usedcars_assets.failures import UnavailableError

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import SparkSession

    from usedcars_assets.resources.jvm_loan import JvmLoan


# A training's JVM lives for minutes, and half of what it does is to compile itself. Ten times Java's own
# thresholds leave to the second, dear compiler what is called so often that it pays. Pauses do not matter to
# it, and the collector with them has less to do.
_JVM_OPTIONS = (
    "-XX:+UseParallelGC "
    "-XX:Tier4InvocationThreshold=50000 -XX:Tier4MinInvocationThreshold=6000 "
    "-XX:Tier4CompileThreshold=150000 -XX:Tier4BackEdgeThreshold=400000"
)


class SharedSpark(LazyPySparkResource):
    """One session a run, started by the first asset that needs it and stopped when the run ends.

    One whose JVM is gone, killed for its memory for instance, is replaced, so that a step's retry helps.
    Where there is a keeper of a JVM (`jvm_keeper`), the session runs in that one, which may be warm.
    A field that is empty or 0 is left to Spark. `spark_config` comes last and wins.
    """

    master: str = Field(default="local[2]", description="Spark master: local[*], k8s://…, yarn.")
    driver_memory: str = Field(default="2g", description="Memory of the driver, the run's own process.")
    executor_instances: int = Field(default=0, description="Executors on a cluster.")
    executor_memory: str = Field(default="", description="Memory of an executor.")
    executor_cores: int = Field(default=0, description="Cores of an executor.")
    shuffle_partitions: int = Field(default=4, description="Upper bound of tasks after a shuffle.")
    hdfs_user: str = Field(default="usedcars", description="User name sent to HDFS.")
    lake_uri: str = Field(default="", description="A file system that executors on a cluster share.")
    jvm_keeper: str = Field(default="", description="Socket of who keeps a JVM between runs; empty: no one.")
    spark_config: dict[str, Any] = Field(default={}, description="More Spark settings, by their full names.")

    _own: bool = PrivateAttr(default=False)
    _loan: "JvmLoan | None" = PrivateAttr(default=None)
    _models: dict[str, "PipelineModel"] = PrivateAttr(default_factory=dict)
    _events: "TemporaryDirectory[str] | None" = PrivateAttr(default=None)
    _lock: Any = PrivateAttr(default_factory=Lock)

    def configuration(self) -> dict[str, str]:
        """The Spark settings that these fields and the pipeline's own needs come to."""
        from usedcars_assets.pipeline.spark_session import spark_settings

        fields = {
            "spark.app.name": "usedcars",
            "spark.master": self.master,
            "spark.driver.memory": self.driver_memory,
            "spark.driver.extraJavaOptions": _JVM_OPTIONS,
            "spark.executor.instances": self.executor_instances,
            "spark.executor.memory": self.executor_memory,
            "spark.executor.cores": self.executor_cores,
            "spark.ui.enabled": "false",
        }
        if not self.master.startswith("local"):
            fields["spark.sql.adaptive.enabled"] = "true"
            if self.lake_uri:
                # MLflow saves and loads models by way of the default file system: all must see it.
                fields["spark.hadoop.fs.defaultFS"] = self.lake_uri
                fields["spark.usedcars.scratch"] = f"{self.lake_uri}/scratch"
        pipeline = spark_settings(shuffle_partitions=self.shuffle_partitions, hdfs_user=self.hdfs_user)
        return pipeline | {name: str(value) for name, value in fields.items() if value} | self.spark_config

    def _init_session(self) -> None:
        from pyspark import SparkContext

        with self._lock:
            if self._spark_session is not None:
                if _lives(self._spark_session):
                    return
                self._lose_session()
            _name_the_program()
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            os.environ["HADOOP_USER_NAME"] = self.hdfs_user
            self._own = SparkContext._active_spark_context is None
            self._events = self._events or TemporaryDirectory(prefix="usedcars-events-")
            configuration = self.configuration()
            if self.jvm_keeper and SparkContext._gateway is None:
                from usedcars_assets.resources.jvm_loan import JvmLoan

                self._loan = JvmLoan.of(self.jvm_keeper, configuration, self.hdfs_user)
            try:
                with self._loan.gateway() if self._loan else nullcontext():
                    self._spark_session = spark_session_from_config(  # type: ignore[no-untyped-call]
                        _event_log(self._events.name) | configuration
                    )
            except BaseException:
                if self._loan is not None:  # else what is there may be another's
                    self._lose_session()
                raise

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Stops the session, unless it was there before."""
        if self._own and self._spark_session is not None:
            if _lives(self._spark_session):
                self._spark_session.stop()
                if self._loan is not None:
                    self._loan.give_back()
                    self._loan = None
            else:
                self._lose_session()
        self._spark_session = None
        self._models.clear()
        if self._events is not None:
            self._events.cleanup()
            self._events = None

    def _lose_session(self) -> None:
        """Its JVM is gone, or is to go."""
        _forget(self._spark_session)
        self._models.clear()
        if self._loan is not None:
            self._loan.drop()
            self._loan = None

    def events(self) -> Iterator[str]:
        """What the run's own sessions have logged so far, an event a line."""
        for log in sorted(Path(self._events.name).iterdir()) if self._events else ():
            with log.open(encoding="utf-8") as lines:
                yield from lines

    def save_model(self, model: "PipelineModel", path: str) -> None:
        """Saves a pipeline, complete or not at all, and keeps it for the run's further steps."""
        from usedcars_assets.pipeline.tables import save_model

        save_model(model, path, overwrite=True)
        self._models[path] = model

    def model(self, path: str) -> "PipelineModel":
        """The pipeline saved at `path`; it is read once a run, which takes dozens of small jobs."""
        from usedcars_assets.pipeline.tables import load_pipeline

        found = self._models.get(path) or load_pipeline(path)
        self._models[path] = found
        return found

    @contextmanager
    def step(
        self, context: AssetExecutionContext | AssetCheckExecutionContext | OpExecutionContext
    ) -> Iterator["SparkSession"]:
        """The session, for the thread of one step: its jobs share one FAIR pool and are named after it."""
        session: SparkSession = self.spark_session
        spark_context = session.sparkContext
        op_context = context if isinstance(context, OpExecutionContext) else context.op_execution_context
        name = op_context.op_handle.name
        spark_context.setLocalProperty("spark.scheduler.pool", name)
        spark_context.setJobGroup(f"{op_context.run.run_id}/{name}", name, interruptOnCancel=True)
        try:
            yield session
        except Exception as error:
            if _lives(session):
                raise
            raise UnavailableError(
                f"Spark's JVM ended while {name} ran, killed for its memory perhaps: run this step again, "
                "with more in USEDCARS_SPARK_DRIVER_MEMORY if that happens once more."
            ) from error
        finally:
            with suppress(Exception):  # a JVM that is gone remembers nothing
                spark_context.setLocalProperty("spark.scheduler.pool", None)  # type: ignore[arg-type]
                spark_context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]


def _event_log(folder: str) -> dict[str, str]:
    """Plain, so that it can be read while it is written."""
    return {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": Path(folder).as_uri(),
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
    }


def _lives(session: "SparkSession") -> bool:
    from py4j.protocol import Py4JError

    try:
        return not session.sparkContext._jsc.sc().isStopped()
    except (Py4JError, OSError, AttributeError):  # AttributeError: stopped from Python
        return False


def _forget(session: "SparkSession | None") -> None:
    """Clears what pyspark keeps of a JVM that is gone, which it would ask again."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    with suppress(Exception):  # the JVM is no more
        if session is not None:
            session.sparkContext.stop()
    if SparkContext._gateway is not None:
        with suppress(Exception):
            SparkContext._gateway.shutdown()
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = None


def _name_the_program() -> None:
    """Gives the main module a file where it has none, as in the process that Dagster starts a run in.

    pyspark.sql.connect.utils.check_dependencies, which MLflow's Spark flavour comes by, takes such a process
    for a doctest, and ends it.
    """
    program = sys.modules["__main__"]
    if not hasattr(program, "__file__"):
        program.__file__ = __file__
