"""Structured logs of the two processes."""

import logging
import sys
from typing import Literal

import structlog


def first_line(error: BaseException, most: int = 300) -> str:
    """What an error says, without the stack that the JVM puts below it, in at most `most` characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:most]


def configure_logs(log_format: Literal["console", "json"]) -> None:
    """Log one event a line to standard output, for people (`console`) or for machines (`json`)."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    # Both retry for themselves and say so at length; what matters of it is said by this application.
    for chatty in ("kafka", "py4j", "mlflow", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
