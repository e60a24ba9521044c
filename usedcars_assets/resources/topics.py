"""The Kafka topics between the platform and the outside world."""

from typing import Any

from dagster import ConfigurableResource
from pydantic import Field


class Topics(ConfigurableResource[Any]):
    """Where price requests, their answers and what is told of them are."""

    bootstrap_servers: str = Field(description="Kafka brokers: host:port, …")
    requests: str = Field(description="Topic of price requests.")
    predictions: str = Field(description="Topic of answers.")
    live_metrics: str = Field(description="Topic of the live metrics' windows.")
    input_drift: str = Field(description="Topic of how far the requests are from the training rows.")
    takeovers: str = Field(description="Topic, of one partition, of who began to answer.")
    promotions: str = Field(description="Topic, of one partition, of versions brought in and out of service.")

    @property
    def servers(self) -> list[str]:
        """The brokers, one by one."""
        return [server.strip() for server in self.bootstrap_servers.split(",")]
