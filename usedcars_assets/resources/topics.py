"""The Kafka topics between the platform and the outside world."""

from typing import Any

from dagster import ConfigurableResource
from pydantic import Field


class Topics(ConfigurableResource[Any]):
    """Where price requests and their answers are."""

    bootstrap_servers: str = Field(description="Kafka brokers: host:port, …")
    requests: str = Field(description="Topic of price requests.")
    predictions: str = Field(description="Topic of answers.")
