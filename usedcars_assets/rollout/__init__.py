"""A registered version into service."""
