"""The embedded platform: HDFS, Kafka, MLflow, Dagster, serving and live metrics as processes of one machine."""
