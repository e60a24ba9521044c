"""From raw listings to one Spark ML artefact, without Dagster."""
