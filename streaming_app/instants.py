"""How times are written in all records: in UTC, to the millisecond."""

from datetime import UTC, datetime

INSTANT = "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"
"""The pattern for Spark."""


def instant(at: datetime) -> str:
    """The same in Python."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
