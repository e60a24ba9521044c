"""Addresses and limits of the code location, read from the environment once."""

from collections.abc import Callable
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, SecretStr, ValidationError, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

Kind = TypeVar("Kind", bound=BaseModel)


class WrongSettingError(Exception):
    """Environment variables that can't be what they are; the message names each, and what is wrong."""


class Settings(BaseSettings):
    """Every field is the environment variable of its name, in capitals, with the prefix USEDCARS_."""

    model_config = SettingsConfigDict(env_prefix="USEDCARS_", frozen=True)

    lake_uri: str = Field("hdfs://127.0.0.1:9820/usedcars", description="Root of the lake, as Spark sees it.")
    webhdfs_url: str = Field("http://127.0.0.1:9870", description="WebHDFS of the same file system.")
    hdfs_user: str = Field("usedcars", description="User name sent to HDFS.")
    hdfs_timeout_seconds: float = Field(30, gt=0, description="How long WebHDFS may take to answer.")

    spark_master: str = Field("local[2]", description="Spark master: local[*], k8s://…, yarn.")
    spark_driver_memory: str = Field("2g", description="Memory of the Spark driver.")
    spark_executor_instances: int = Field(0, ge=0, description="Executors on a cluster; 0: its default.")
    spark_executor_memory: str = Field("", description="Memory of an executor; empty: the cluster's default.")
    spark_executor_cores: int = Field(0, ge=0, description="Cores of an executor; 0: the cluster's default.")
    spark_jvm_socket: str = Field(
        "",
        description="Unix socket of the process that keeps a JVM between runs; empty: each starts its own.",
    )
    spark_jvm_idle_seconds: float = Field(
        1800, ge=0, description="How long that JVM, with its memory, is kept for a next run."
    )
    comparison_spark_master: str = Field(
        "local[2]", description="Spark master that compares two versions on live requests."
    )
    comparison_spark_driver_memory: str = Field("1g", description="Memory of its driver.")

    mlflow_tracking_uri: str = Field("http://127.0.0.1:5000", description="MLflow's tracking server.")
    mlflow_url: str = Field(
        "", description="MLflow as a browser reaches it; empty: the tracking server's address."
    )
    mlflow_experiment: str = Field("usedcars-price", description="MLflow experiment of the trainings.")
    registered_model: str = Field("usedcars-price", description="Name of the registered MLflow model.")
    serving_alias: str = Field("serving", description="Alias of the version that serving must run.")
    lost_runs_interval_seconds: int = Field(
        30, ge=1, description="How often MLflow runs are ended that a training left running."
    )
    dagster_url: str = Field("http://127.0.0.1:3000", description="Dagster as a browser reaches it.")
    dagster_api_url: str = Field(
        "", description="Dagster as the periodic checks reach it; empty: as a browser does."
    )

    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers: host:port, …")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="SSL: encrypted; SASL: clients log in."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How clients log in."
    )
    kafka_username: str = Field("", description="As whom clients log in.")
    kafka_password: SecretStr = Field(SecretStr(""), description="Its password.")
    kafka_ca: str = Field("", description="PEM certificates to trust; empty: those of the system.")
    requests_topic: str = Field("usedcars.requests", description="Topic of price requests.")
    predictions_topic: str = Field("usedcars.predictions", description="Topic of answers.")
    live_metrics_topic: str = Field("usedcars.live-metrics", description="Topic of the live metrics.")
    input_drift_topic: str = Field("usedcars.input-drift", description="Topic of the input drift.")
    takeovers_topic: str = Field("usedcars.takeovers", description="Topic of who began to answer.")
    promotions_topic: str = Field(
        "usedcars.promotions", description="Topic of registrations, rollouts and rollbacks, kept for good."
    )

    deployment: Literal["supervisor", "kubernetes"] = Field("supervisor", description="What runs serving.")
    kubernetes_namespace: str = Field("usedcars", description="Kubernetes namespace of serving.")
    kubernetes_serving: str = Field("serving", description="Name of serving's Deployment.")
    supervisor_socket: str = Field(
        ".usedcars/run/supervisor.sock", description="Unix socket of Supervisor's XML-RPC interface."
    )
    serving_urls: str = Field(
        "http://127.0.0.1:8081",
        description="Pages of serving's processes, comma-separated: what each refused, and why.",
    )
    rollout_timeout_seconds: float = Field(
        300, gt=0, description="How long the rollout waits for answers of a version."
    )

    versions_interval_seconds: int = Field(
        30, ge=1, description="How often it is looked whether someone has registered a version."
    )

    ledger_interval_seconds: int = Field(
        30, ge=1, description="How often the ledger is looked at for the asset promotion_ledger."
    )

    live_metrics_interval_seconds: int = Field(
        60, ge=1, description="How often the live metrics are told in Dagster and MLflow."
    )
    live_metrics_settled_seconds: float = Field(
        60, ge=0, description="A window is told so long after its end: its last prices are then in."
    )

    rollback: bool = Field(
        True, description="Whether the former version is put back when the one in service is worse."
    )
    rollback_margin: float = Field(
        0.02, ge=0, description="How much larger than the former version's the live error may be, a fraction."
    )
    rollback_confidence: float = Field(
        0.99, gt=0.5, lt=1, description="How sure it must be that the version is worse, over all looks."
    )
    rollback_least_pairs: int = Field(
        200, ge=2, description="Fewer cars priced in service and with a set price decide nothing."
    )
    rollback_most_messages: int = Field(
        1_000_000, ge=1, description="Messages after a rollout by which its version is judged."
    )
    rollback_interval_seconds: int = Field(
        60, ge=1, description="How often it is looked whether there is new live evidence."
    )
    spark_jars: Path = Field(
        Path(".usedcars/jars/spark-kafka"), description="Folder with the Kafka connector jars for Spark."
    )

    sensor_interval_seconds: int = Field(10, ge=1, description="How often incoming/ is looked at.")
    claim_timeout_seconds: float = Field(
        300, gt=0, description="After this time a claim whose run never appeared is void."
    )
    run_silence_seconds: float = Field(
        300, gt=0, description="A training whose process has not said for so long that it lives is failed."
    )
    retraining_cron: str = Field("0 3 * * *", description="When nightly_retraining looks for new data (UTC).")


@cache
def settings() -> Settings:
    """The settings of this process; WrongSettingError when the environment has nonsense."""
    return _read(Settings, "USEDCARS_")


def defaults_from_environment(name: str) -> Callable[[type[Kind]], type[Kind]]:
    """Gives each field of a run's configuration its default from the variable USEDCARS_<NAME>_<FIELD>.

    So what an operator sets for all trainings is what the UI shows, and a run may still change it.
    """

    def with_defaults(kind: type[Kind]) -> type[Kind]:
        fields: dict[str, Any] = {
            field: (about.annotation, about) for field, about in kind.model_fields.items()
        }
        prefix = f"USEDCARS_{name.upper()}_"

        class Prefixed(BaseSettings):
            model_config = SettingsConfigDict(env_prefix=prefix)

        reader: type[BaseSettings] = create_model(f"{kind.__name__}Settings", __base__=Prefixed, **fields)
        found = _read(reader, prefix)
        for field, (annotation, about) in fields.items():
            changed = copy(about)
            changed.default = getattr(found, field)
            fields[field] = (annotation, changed)
        configured: type[Kind] = create_model(
            kind.__name__, __base__=kind, __module__=kind.__module__, __doc__=kind.__doc__, **fields
        )
        return configured

    return with_defaults


def _read(kind: type[Kind], prefix: str) -> Kind:
    try:
        return kind()
    except ValidationError as error:
        wrong = [
            f"{prefix}{'_'.join(str(part).upper() for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise WrongSettingError(f"{'; '.join(wrong)}: set it to a fitting value or not at all.") from None
