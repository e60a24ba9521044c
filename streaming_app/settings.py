"""Every setting of the streaming application, read from environment variables in this one place."""

import os
import socket
import sys
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Kind = TypeVar("Kind", bound=BaseSettings)


class KafkaSettings(BaseSettings):
    """Where the messages are: all that a client needs."""

    model_config = SettingsConfigDict(env_prefix="USEDCARS_", extra="ignore", frozen=True)

    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port,host:port")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="SSL: encrypted; SASL: clients log in"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how clients log in"
    )
    kafka_username: str = Field("", description="as whom clients log in")
    kafka_password: SecretStr = Field(SecretStr(""), description="its password")
    kafka_ca: str = Field("", description="PEM certificates to trust; empty: those of the system")
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

    @model_validator(mode="after")
    def _users_have_names(self) -> Self:
        if self.kafka_has_users and not (self.kafka_username and self.kafka_password.get_secret_value()):
            raise ValueError(
                f"With {self.kafka_security_protocol} clients of Kafka log in: "
                "set USEDCARS_KAFKA_USERNAME and USEDCARS_KAFKA_PASSWORD"
            )
        return self

    @property
    def kafka_has_users(self) -> bool:
        """Whether clients log in."""
        return self.kafka_security_protocol.startswith("SASL")

    @property
    def kafka_is_encrypted(self) -> bool:
        """Whether connections are encrypted."""
        return self.kafka_security_protocol.endswith("SSL")


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
        description="Spark master; needs one core for each partition of the requests, and one more; with two "
        "for each a successor starts, and waits at its gate, before the former ends",
    )
    serving_spark_driver_memory: str = Field("1g", description="heap of the serving JVM")
    serving_batch_duration: str = Field(
        "1 day",
        description="length of a real-time batch; answers wait a second for the next one at its end",
    )
    serving_group: str = Field(
        "usedcars-serving", description="consumer group that keeps the floor of the offsets to resume from"
    )
    serving_session_seconds: float = Field(
        3.0, gt=0, description="the active process unheard of for so long is succeeded by a standby"
    )
    serving_duty_seconds: float = Field(
        60.0,
        gt=0,
        description="the active process that does not come to answer for so long ends, and is succeeded",
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
    live_metrics_trigger: str = Field("2 seconds", description="distance between two updates of the figures")
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


def from_environment(kind: type[Kind]) -> Kind:
    """The settings of a process; it exits with a sentence for each that is wrong."""
    try:
        return kind()
    except ValidationError as error:
        sentences = []
        for problem in error.errors():
            name = "_".join(["USEDCARS", *(str(part).upper() for part in problem["loc"])])
            said = problem["msg"].removeprefix("Value error, ")
            sentences.append(f"{name}: {said}: set it to a fitting value" if problem["loc"] else said)
        sys.exit("\n".join(sentences))
