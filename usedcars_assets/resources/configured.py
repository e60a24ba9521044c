"""The resources as the settings say."""

from typing import Any

from dagster import EnvVar

from usedcars_assets.resources.deployment import ServingDeployment
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.references import ReferenceIOManager
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.resources.topics import Topics
from usedcars_assets.settings import Settings, settings


def configured_resources(values: Settings | None = None) -> dict[str, Any]:
    """By the names under which assets ask for them; Spark's fields can be changed for each run."""
    values = values or settings()
    lake = Lake(
        root_uri=values.lake_uri,
        webhdfs_url=values.webhdfs_url,
        user=values.hdfs_user,
        timeout_seconds=values.hdfs_timeout_seconds,
    )
    connector = sorted(str(jar.absolute()) for jar in values.spark_jars.glob("*.jar"))
    return {
        "lake": lake,
        "io_manager": ReferenceIOManager(lake=lake),
        "spark": SharedSpark.configure_at_launch(
            master=values.spark_master,
            driver_memory=values.spark_driver_memory,
            executor_instances=values.spark_executor_instances,
            executor_memory=values.spark_executor_memory,
            executor_cores=values.spark_executor_cores,
            hdfs_user=values.hdfs_user,
            lake_uri=values.lake_uri,
            jvm_keeper=values.spark_jvm_socket,
        ),
        # Small, beside a training: it prices some thousand listings.
        "kafka_spark": SharedSpark(
            master=values.comparison_spark_master,
            driver_memory=values.comparison_spark_driver_memory,
            hdfs_user=values.hdfs_user,
            lake_uri=values.lake_uri,
            spark_config={"spark.jars": ",".join(connector)} if connector else {},
        ),
        "mlflow": MlflowTracking(
            tracking_uri=values.mlflow_tracking_uri,
            url=values.mlflow_url,
            experiment=values.mlflow_experiment,
            registered_model=values.registered_model,
            serving_alias=values.serving_alias,
            dagster_url=values.dagster_url,
        ),
        "deployment": ServingDeployment(
            kind=values.deployment,
            supervisor_socket=values.supervisor_socket,
            serving_urls=values.serving_urls.split(","),
            namespace=values.kubernetes_namespace,
            name=values.kubernetes_serving,
        ),
        "topics": Topics(
            bootstrap_servers=values.kafka_bootstrap_servers,
            security_protocol=values.kafka_security_protocol,
            sasl_mechanism=values.kafka_sasl_mechanism,
            username=values.kafka_username,
            # By its variable's name, as Dagster's pages show what a resource is made of.
            password=EnvVar("USEDCARS_KAFKA_PASSWORD") if values.kafka_password.get_secret_value() else "",
            ca=values.kafka_ca,
            requests=values.requests_topic,
            predictions=values.predictions_topic,
            live_metrics=values.live_metrics_topic,
            input_drift=values.input_drift_topic,
            takeovers=values.takeovers_topic,
            promotions=values.promotions_topic,
        ),
    }
