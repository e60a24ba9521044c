"""Where the platform listens, from the environment."""

from pydantic import Field
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
