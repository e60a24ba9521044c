"""`python -m local_platform`."""

from local_platform.cli import app

app()
