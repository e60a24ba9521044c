"""Every setting of the streaming application, read from environment variables in this one place."""

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class KafkaSettings(BaseSettings):
    """Where the messages are: all that a client needs."""

    model_config = SettingsConfigDict(env_prefix="USEDCARS_", extra="ignore", frozen=True)

    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port,host:port")
    requests_topic: str = Field("usedcars.requests", description="topic of price requests and set prices")
    predictions_topic: str = Field("usedcars.predictions", description="topic of the answers")
    live_metrics_topic: str = Field("usedcars.live-metrics", description="topic of the live metrics")
    live_totals_topic: str = Field(
        "usedcars.live-totals", description="topic, compacted, of the live metrics since the beginning"
    )
    dead_letters_topic: str = Field(
        "usedcars.dead-letters", description="topic of the rejected messages with the reasons"
    )
    input_drift_topic: str = Field(
        "usedcars.input-drift", description="topic of how far the requests are from the training rows"
    )
    takeovers_topic: str = Field(
        "usedcars.takeovers", description="topic, of one partition, of who began to answer, and from where on"
    )
    promotions_topic: str = Field(
        "usedcars.promotions",
        description="topic, of one partition, of registrations, rollouts and rollbacks",
    )


class ApplicationSettings(KafkaSettings):
    """What serving and live metrics have in common."""

    home: Path = Field(Path(".usedcars"), description="folder below which the application keeps its files")
    spark_jars: Path = Field(
        Path(".usedcars/jars/spark-kafka"), description="folder with the Kafka connector jars for Spark"
    )
    log_format: Literal["console", "json"] = Field("console", description="console: for people; json: a line")
    max_message_bytes: int = Field(
        65_536, gt=0, description="a longer message is answered with the rejection too_large, unread"
    )
    mlflow_tracking_uri: str = Field("http://127.0.0.1:5000", description="MLflow tracking server")
    registered_model: str = Field("usedcars-price", description="MLflow registered model to serve")
    health_host: str = Field("127.0.0.1", description="address of the health and metrics page")


class ServingSettings(ApplicationSettings):
    """The serving process."""

    serving_alias: str = Field("serving", description="alias of the version to serve")
    serving_spark_master: str = Field(
        "local[4]",
        description="Spark master; needs one core for each partition of the requests, and one more",
    )
    serving_spark_driver_memory: str = Field("1g", description="heap of the serving JVM")
    serving_batch_duration: str = Field(
        "2 minutes", description="length of a real-time batch; answers do not wait for its end"
    )
    serving_group: str = Field(
        "usedcars-serving", description="consumer group that keeps the floor of the offsets to resume from"
    )
    serving_session_seconds: float = Field(
        3.0, gt=0, description="the active process unheard of for so long is succeeded by a standby"
    )
    serving_instance: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="name of this process in the takeovers",
    )
    warm_up_requests_topic: str = Field(
        "usedcars.warm-up-requests", description="scratch topic on which a standby warms up"
    )
    warm_up_predictions_topic: str = Field(
        "usedcars.warm-up-predictions", description="scratch topic of the answers of a warm-up"
    )
    serving_port: int = Field(8081, description="port of the health and metrics page")

    @property
    def model_folder(self) -> Path:
        """The local copies of the served models."""
        return self.home.absolute() / "serving" / "models"

    @property
    def checkpoint_folder(self) -> Path:
        """The checkpoints of the running queries, one a process, worthless after its end."""
        return self.home.absolute() / "serving" / "checkpoints"


class LiveMetricsSettings(ApplicationSettings):
    """The live metrics process."""

    live_metrics_spark_master: str = Field("local[2]", description="Spark master")
    live_metrics_spark_driver_memory: str = Field("768m", description="heap of the live metrics JVM")
    live_metrics_state: Path | None = Field(
        None,
        description="folder of the queries' state, kept across restarts; default: live-metrics below home",
    )
    live_metrics_window: str = Field("10 minutes", description="length of a window of the figures")
    live_metrics_slide: str = Field("1 minute", description="distance between the starts of two windows")
    live_metrics_price_delay: str = Field(
        "1 hour", description="a price set later than this after its answer is late, and measures nothing"
    )
    live_metrics_answers_kept: str = Field(
        "2 hours",
        description="a price set later than this after its answer finds no answer; at least the price delay",
    )
    live_metrics_lateness: str = Field(
        "1 minute", description="how much later than the newest message of its kind a message may come"
    )
    live_metrics_trigger: str = Field("1 second", description="distance between two updates of the figures")
    drift_every_seconds: float = Field(60.0, gt=0, description="distance between two looks at the input")
    drift_window_seconds: float = Field(
        600.0, gt=0, description="of how long the requests are compared with the training rows"
    )
    drift_requests: int = Field(10_000, gt=0, description="of these the newest, at most so many")
    drift_least_requests: int = Field(500, gt=0, description="fewer requests tell nothing of a drift")
    drift_warning: float = Field(
        0.1, gt=0, description="population stability index of a feature that is worth a look"
    )
    drift_alarm: float = Field(
        0.25, gt=0, description="population stability index of a feature that has moved much"
    )
    live_metrics_port: int = Field(8082, description="port of the health and metrics page")

    def checkpoint(self, query: str) -> str:
        """Where the state of a query is kept, a URI."""
        folder = self.live_metrics_state or self.home.absolute() / "live-metrics"
        return (folder.absolute() / query).as_uri()
