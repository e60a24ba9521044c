"""The Kafka topics between the platform and the outside world."""

import ssl
from typing import Any

from dagster import ConfigurableResource
from pydantic import Field


class Topics(ConfigurableResource[Any]):
    """Where price requests, their answers and what is told of them are, and how Kafka lets one in."""

    bootstrap_servers: str = Field(description="Kafka brokers: host:port, …")
    security_protocol: str = Field(
        default="PLAINTEXT", description="SSL: encrypted; SASL_…: clients log in; PLAINTEXT."
    )
    sasl_mechanism: str = Field(
        default="SCRAM-SHA-512", description="How clients log in; PLAIN, SCRAM-SHA-256."
    )
    username: str = Field(default="", description="As whom clients log in.")
    password: str = Field(default="", description="Its password.")
    ca: str = Field(default="", description="PEM certificates to trust; empty: those of the system.")
    requests: str = Field(description="Topic of price requests.")
    predictions: str = Field(description="Topic of answers.")
    live_metrics: str = Field(description="Topic of the live metrics' windows.")
    input_drift: str = Field(description="Topic of how far the requests are from the training rows.")
    takeovers: str = Field(description="Topic, of one partition, of who began to answer.")
    promotions: str = Field(description="Topic, of one partition, of versions brought in and out of service.")

    def access(self) -> dict[str, Any]:
        """How a kafka-python client gets in: its arguments."""
        servers = [server.strip() for server in self.bootstrap_servers.split(",")]
        access: dict[str, Any] = {"bootstrap_servers": servers, "security_protocol": self.security_protocol}
        if self._is_encrypted:
            access["ssl_context"] = ssl.create_default_context(cadata=self.ca or None)
        if self._has_users:
            access |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return access

    def spark_access(self) -> dict[str, str]:
        """The same as options of Spark's Kafka source."""
        access = {
            "kafka.bootstrap.servers": self.bootstrap_servers,
            "kafka.security.protocol": self.security_protocol,
        }
        if self._is_encrypted and self.ca:
            # The certificates themselves: executors have no file of them.
            access |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.certificates": self.ca}
        if self._has_users:
            package = "plain.Plain" if self.sasl_mechanism == "PLAIN" else "scram.Scram"
            access |= {
                "kafka.sasl.mechanism": self.sasl_mechanism,
                "kafka.sasl.jaas.config": f"org.apache.kafka.common.security.{package}LoginModule required "
                f"username={_quoted(self.username)} password={_quoted(self.password)};",
            }
        return access

    @property
    def _has_users(self) -> bool:
        return self.security_protocol.startswith("SASL")

    @property
    def _is_encrypted(self) -> bool:
        return self.security_protocol.endswith("SSL")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
