"""What the assets use and do not own: the lake, Spark, MLflow, the deployment."""
