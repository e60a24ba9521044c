"""The trained artefact as a registered MLflow version."""
