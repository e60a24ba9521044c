"""The embedded platform: HDFS, Kafka, MLflow, Dagster and the streaming application on one machine."""
