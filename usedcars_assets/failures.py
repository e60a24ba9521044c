"""Every failure of an asset is one sentence: what is wrong, with what, and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from dagster import Failure, RetryPolicy

OUTAGE_RETRIES = RetryPolicy(max_retries=2, delay=10)
"""For assets that talk to other services: only failures that may heal by themselves are retried."""

_UNREACHABLE = re.compile(
    r"Connection refused|ConnectException|ConnectionError|Max retries exceeded"
    r"|UnknownHostException|NoRouteToHostException|SafeModeException|SocketTimeout|Read timed out"
    r"|could only be written to 0 of the",
    re.IGNORECASE,
)


class UnavailableError(Exception):
    """A service does not answer; the message says which and what to do."""


@contextmanager
def clear_failures(doing: str) -> Iterator[None]:
    """Turns what goes wrong while `doing` (as in "cleaning a batch") into a Failure with one sentence."""
    try:
        yield
    except Failure:
        raise
    except Exception as error:
        sentence, may_heal = explain(error, doing)
        raise Failure(sentence, allow_retries=may_heal) from error


def explain(error: Exception, doing: str) -> tuple[str, bool]:
    """The sentence for an error, and whether trying again may help."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "LakeUnavailableError" in kinds or isinstance(error, UnavailableError):
        return str(error), True
    if "PipelineError" in kinds:
        return str(error), False
    text = _first_line(error)
    if "MlflowException" in kinds:
        if _UNREACHABLE.search(str(error)):
            return f"MLflow does not answer while {doing} ({text}): start it, then run this step again.", True
        return f"MLflow refused {doing} ({text}): correct what it names, or see MLflow's log.", False
    if "KafkaError" in kinds:
        return f"Kafka does not answer while {doing} ({text}): start it, then run this step again.", True
    if kinds & {"PySparkException", "Py4JError", "Py4JNetworkError"}:
        if _UNREACHABLE.search(str(error)):
            return f"HDFS does not answer while {doing} ({text}): start it, then run this step again.", True
        return f"Spark failed while {doing} ({text}): see this run's log for the Java stack.", False
    if isinstance(error, OSError) and _UNREACHABLE.search(str(error)):
        return f"A service does not answer while {doing} ({text}): start it, then run this step again.", True
    return f"{doing.capitalize()} failed ({type(error).__name__}: {text}): see this run's log.", False


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes[-1] if causes else lines[0] if lines else type(error).__name__)[:300]
