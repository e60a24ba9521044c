"""Where the platform listens, from the environment."""

import ssl
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class SimulationSettings(BaseSettings):
    """Addresses of the platform as the outside world sees them; each from `USEDCARS_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="USEDCARS_", frozen=True)

    webhdfs_url: str = Field("http://127.0.0.1:9870", description="WebHDFS of the lake's file system.")
    hdfs_user: str = Field("usedcars", min_length=1, description="User name sent to HDFS.")
    incoming_path: str = Field(
        "/usedcars/incoming", pattern="^/.*[^/]$", description="Folder of HDFS that batches are dropped into."
    )
    hdfs_replication: int = Field(1, ge=1, le=32, description="Copies of a file that HDFS keeps.")
    kafka_bootstrap_servers: str = Field(
        "127.0.0.1:9092", description="Kafka brokers, host:port separated by commas."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="SSL: encrypted; SASL: clients log in."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How clients log in."
    )
    kafka_username: str = Field("", description="As whom clients log in.")
    kafka_password: SecretStr = Field(SecretStr(""), description="Its password.")
    kafka_ca: str = Field("", description="PEM certificates to trust; empty: those of the system.")
    requests_topic: str = Field(
        "usedcars.requests", description="Topic of price requests and of the prices set later."
    )
    predictions_topic: str = Field("usedcars.predictions", description="Topic of the answers.")
    connection_timeout: float = Field(
        10.0, gt=0, le=600, description="Seconds to wait for HDFS or Kafka to answer one call."
    )
    connection_attempts: int = Field(
        4, ge=1, le=100, description="How often a call to HDFS is tried before it counts as down."
    )

    def kafka_access(self) -> dict[str, Any]:
        """How a kafka-python client gets in: its arguments."""
        access: dict[str, Any] = {
            "bootstrap_servers": self.kafka_bootstrap_servers.split(","),
            "security_protocol": self.kafka_security_protocol,
        }
        if self.kafka_security_protocol.endswith("SSL"):
            access["ssl_context"] = ssl.create_default_context(cadata=self.kafka_ca or None)
        if self.kafka_security_protocol.startswith("SASL"):
            access |= {
                "sasl_mechanism": self.kafka_sasl_mechanism,
                "sasl_plain_username": self.kafka_username,
                "sasl_plain_password": self.kafka_password.get_secret_value(),
            }
        return access
