"""Every setting of the embedded platform: the one place where ports, folders and sizes are read."""

import hashlib
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65535)]
Megabytes = Annotated[int, Field(ge=64, le=1_000_000)]

# Unix sockets have short paths: 104 bytes on macOS, 108 on Linux.
LONGEST_SOCKET_PATH = 100

HOST = "127.0.0.1"


class PlatformSettings(BaseSettings):
    """Settings of the embedded platform; each is read from the environment as USEDCARS_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="USEDCARS_", extra="ignore", frozen=True)

    home: Path = Field(
        default=Path(".usedcars"),
        description="the one folder of data, jars, logs and sockets of the platform",
    )
    jars: Path | None = Field(
        default=None, description="folder of the downloaded jars; by default below the home folder"
    )
    repository: Path = Field(
        default=Path(__file__).resolve().parent.parent, description="the checkout whose code Dagster loads"
    )
    port_offset: int = Field(
        default=0,
        ge=0,
        le=50_000,
        description="added to every port, so that two platforms stand side by side",
    )

    namenode_port: Port = Field(default=9820, description="HDFS RPC")
    namenode_http_port: Port = Field(default=9870, description="WebHDFS and the NameNode's JMX")
    datanode_port: Port = Field(default=9866, description="DataNode data transfer")
    datanode_http_port: Port = Field(default=9864, description="DataNode HTTP")
    datanode_ipc_port: Port = Field(default=9867, description="DataNode IPC")
    kafka_port: Port = Field(default=9092, description="Kafka clients")
    kafka_controller_port: Port = Field(default=9093, description="Kafka controller")
    mlflow_port: Port = Field(default=5000, description="MLflow tracking server")
    dagster_port: Port = Field(default=3000, description="Dagster's UI and GraphQL")
    serving_port: Port = Field(default=8081, description="health and metrics of serving")
    serving_standby_port: Port = Field(default=8083, description="health and metrics of serving's standby")
    live_metrics_port: Port = Field(default=8082, description="health and metrics of live metrics")

    namenode_heap_mb: Megabytes = Field(default=384, description="largest heap of the NameNode")
    datanode_heap_mb: Megabytes = Field(default=384, description="largest heap of the DataNode")
    kafka_heap_mb: Megabytes = Field(default=512, description="largest heap of the Kafka broker")
    training_memory_mb: Megabytes = Field(default=2048, description="memory of the training's Spark driver")
    serving_standby: bool = Field(
        default=False,
        description="a second serving process, warm, that takes over when the first ends; needs its memory",
    )
    comparison_memory_mb: Megabytes = Field(
        default=1024, description="memory of the Spark driver that compares two versions"
    )
    serving_memory_mb: Megabytes = Field(default=1024, description="memory of serving's Spark driver")
    live_metrics_memory_mb: Megabytes = Field(default=768, description="memory of live metrics' Spark driver")
    training_spark_master: str = Field(default="local[2]", description="Spark master of the trainings")

    requests_topic: str = Field(default="usedcars.requests", description="price requests, prices set later")
    predictions_topic: str = Field(default="usedcars.predictions", description="answers")
    live_metrics_topic: str = Field(default="usedcars.live-metrics", description="figures of each window")
    input_drift_topic: str = Field(
        default="usedcars.input-drift", description="how far the requests are from the training rows"
    )
    live_totals_topic: str = Field(
        default="usedcars.live-totals", description="figures since the beginning, compacted"
    )
    dead_letters_topic: str = Field(
        default="usedcars.dead-letters", description="rejected messages with the reasons"
    )
    dead_letters_retention_hours: int = Field(default=720, ge=1, description="how long dead letters are kept")
    takeovers_topic: str = Field(default="usedcars.takeovers", description="who began to answer, and when")
    promotions_topic: str = Field(
        default="usedcars.promotions", description="registrations, rollouts and rollbacks of versions"
    )
    warm_up_topic: str = Field(
        default="usedcars.warm-up", description="begin of the names of two topics on which a standby warms up"
    )
    request_partitions: int = Field(
        default=2,
        ge=1,
        le=64,
        description="partitions of requests and predictions; serving holds a core for each",
    )
    topic_retention_hours: int = Field(default=168, ge=1, description="how long messages are kept")
    largest_message_bytes: int = Field(default=1_048_576, ge=1024, description="largest message of a topic")

    hdfs_user: str = Field(
        default="usedcars", pattern=r"^[a-z_][a-z0-9_-]*$", description="owner of the lake"
    )
    registered_model: str = Field(default="usedcars-price", description="name in MLflow's registry")
    serving_alias: str = Field(default="serving", description="alias of the version that serving runs")

    ready_timeout_seconds: float = Field(
        default=240, gt=0, description="how long one service may take until it is ready"
    )
    stop_timeout_seconds: int = Field(default=30, gt=0, description="how long one service may take to stop")
    least_free_disk_mb: int = Field(
        default=1024, ge=0, description="below this much free disk nothing is started"
    )

    @field_validator("home", "jars")
    @classmethod
    def _no_percent_sign(cls, folder: Path | None) -> Path | None:
        if folder is not None and "%" in str(folder.expanduser().absolute()):
            raise ValueError(f"Supervisor cannot name the folder {folder}: take one without a percent sign")
        return folder

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports: dict[int, str] = {}
        for name in type(self).model_fields:
            if name.endswith("_port"):
                port = getattr(self, name) + self.port_offset
                if port > 65535:
                    raise ValueError(f"{name} with USEDCARS_PORT_OFFSET is {port}: lower one of the two")
                if port in ports:
                    raise ValueError(
                        f"{name} and {ports[port]} are both {port}: set one of them to another port"
                    )
                ports[port] = name
        return self

    def port(self, name: str) -> int:
        """The port a service listens on, with the offset; `name` as in the field, without `_port`."""
        return int(getattr(self, f"{name}_port")) + self.port_offset

    def address(self, name: str) -> str:
        """host:port of a service."""
        return f"{HOST}:{self.port(name)}"

    def url(self, name: str) -> str:
        """http://host:port of a service."""
        return f"http://{self.address(name)}"

    @property
    def serving_urls(self) -> list[str]:
        """The pages of serving's processes."""
        return [self.url("serving"), *([self.url("serving_standby")] if self.serving_standby else [])]

    @cached_property
    def home_folder(self) -> Path:
        """The home folder, absolute."""
        return self.home.expanduser().absolute()

    @property
    def jars_folder(self) -> Path:
        """Where the sets of jars lie."""
        return (self.jars or self.home_folder / "jars").expanduser().absolute()

    @property
    def logs_folder(self) -> Path:
        """Where every service's log lies."""
        return self.home_folder / "logs"

    @property
    def run_folder(self) -> Path:
        """Configuration files, the pid file and the socket."""
        return self.home_folder / "run"

    @cached_property
    def supervisor_socket(self) -> Path:
        """Supervisor's socket: below home, or in a short folder of its own where that path is too long."""
        socket = self.run_folder / "supervisor.sock"
        if len(str(socket)) <= LONGEST_SOCKET_PATH:
            return socket
        name = hashlib.sha256(str(self.home_folder).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"usedcars-{os.getuid()}-{name}" / "supervisor.sock"

    @property
    def code_socket(self) -> Path:
        """Where Dagster's code server listens: not on a port, because who reaches it may run code."""
        return self.supervisor_socket.with_name("code.sock")

    @property
    def spark_jvm_socket(self) -> Path:
        """Where the trainings' JVM is lent: no port either, for the same reason."""
        return self.supervisor_socket.with_name("spark.sock")

    def service_environment(self) -> dict[str, str]:
        """What the started processes read: addresses, names, sizes."""
        lake = f"hdfs://{self.address('namenode')}/usedcars"
        return {
            "USEDCARS_HOME": str(self.home_folder),
            "USEDCARS_LAKE_URI": lake,
            "USEDCARS_WEBHDFS_URL": self.url("namenode_http"),
            "USEDCARS_HDFS_USER": self.hdfs_user,
            "USEDCARS_KAFKA_BOOTSTRAP_SERVERS": self.address("kafka"),
            "USEDCARS_REQUESTS_TOPIC": self.requests_topic,
            "USEDCARS_PREDICTIONS_TOPIC": self.predictions_topic,
            "USEDCARS_LIVE_METRICS_TOPIC": self.live_metrics_topic,
            "USEDCARS_LIVE_TOTALS_TOPIC": self.live_totals_topic,
            "USEDCARS_INPUT_DRIFT_TOPIC": self.input_drift_topic,
            "USEDCARS_DEAD_LETTERS_TOPIC": self.dead_letters_topic,
            "USEDCARS_TAKEOVERS_TOPIC": self.takeovers_topic,
            "USEDCARS_PROMOTIONS_TOPIC": self.promotions_topic,
            "USEDCARS_WARM_UP_REQUESTS_TOPIC": f"{self.warm_up_topic}-requests",
            "USEDCARS_WARM_UP_PREDICTIONS_TOPIC": f"{self.warm_up_topic}-predictions",
            "USEDCARS_MLFLOW_TRACKING_URI": self.url("mlflow"),
            "USEDCARS_REGISTERED_MODEL": self.registered_model,
            "USEDCARS_SERVING_ALIAS": self.serving_alias,
            "USEDCARS_SPARK_MASTER": self.training_spark_master,
            "USEDCARS_SPARK_DRIVER_MEMORY": f"{self.training_memory_mb}m",
            "USEDCARS_COMPARISON_SPARK_DRIVER_MEMORY": f"{self.comparison_memory_mb}m",
            "USEDCARS_SERVING_SPARK_DRIVER_MEMORY": f"{self.serving_memory_mb}m",
            "USEDCARS_LIVE_METRICS_SPARK_DRIVER_MEMORY": f"{self.live_metrics_memory_mb}m",
            "USEDCARS_SPARK_JVM_SOCKET": str(self.spark_jvm_socket),
            "USEDCARS_SPARK_JARS": str(self.jars_folder / "spark-kafka"),
            "USEDCARS_SERVING_PORT": str(self.port("serving")),
            "USEDCARS_SERVING_URLS": ",".join(self.serving_urls),
            "USEDCARS_LIVE_METRICS_PORT": str(self.port("live_metrics")),
            "USEDCARS_DEPLOYMENT": "supervisor",
            "USEDCARS_SUPERVISOR_SOCKET": str(self.supervisor_socket),
            "USEDCARS_DAGSTER_URL": self.url("dagster"),
            "DAGSTER_HOME": str(self.home_folder / "dagster"),
            **{name: _with_this_machine(os.environ.get(name)) for name in ("NO_PROXY", "no_proxy")},
        }

    def environment_of_rooms(self) -> dict[str, str]:
        """The settings of the streaming application and the code location that are theirs alone.

        They stand in Supervisor's configuration, so that a change restarts what reads them; a password, which
        belongs into no file, and what has several lines reach a service only when the platform starts.
        """
        known = {f"USEDCARS_{name.upper()}" for name in type(self).model_fields} | set(
            self.service_environment()
        )
        return {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith("USEDCARS_") and name not in known
            if "PASSWORD" not in name and "\n" not in value
        }


def _with_this_machine(no_proxy: str | None) -> str:
    """Addresses that are reached without a proxy, and this machine's, whatever proxy the network has."""
    named = [address for address in (no_proxy or "").split(",") if address]
    return ",".join(dict.fromkeys([*named, HOST, "localhost"]))
