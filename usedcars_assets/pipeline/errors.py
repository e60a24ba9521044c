"""What can go wrong, said in one sentence: what is wrong, with what, and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

_VANISHED = re.compile(
    r"FileNotFoundException|PATH_NOT_FOUND|FILE_NOT_EXIST|does not exist|BlockMissingException"
)
_UNREACHABLE = re.compile(
    r"ConnectException|Connection refused|UnknownHostException|NoRouteToHostException|SafeModeException"
    r"|SocketTimeoutException|could only be written to 0 of the"
)


class PipelineError(Exception):
    """Something the pipeline cannot go on with; the message names the remedy."""


class BadBatchError(PipelineError):
    """The batch itself is at fault."""


class MissingTableError(PipelineError):
    """A table or model that an earlier stage should have written is not there."""


class LakeUnavailableError(PipelineError):
    """The file system of the lake does not answer."""


def spark_cause(error: Exception) -> str:
    """The first line of a Spark or Java error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith("Caused by: ")]
    return (causes[-1].removeprefix("Caused by: ") if causes else lines[0] if lines else repr(error))[:300]


@contextmanager
def reading(what: str, path: str, vanished: type[PipelineError] = MissingTableError) -> Iterator[None]:
    """Turns what Spark throws while `what` at `path` is read into one sentence."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        text = str(error)
        if _UNREACHABLE.search(text):
            raise LakeUnavailableError(
                f"The file system of {path} does not answer while {what} is read ({spark_cause(error)}): "
                "see that HDFS is up, then run this step again."
            ) from error
        if _VANISHED.search(text):
            raise vanished(
                f"{what} at {path} is gone or was replaced while it was read ({spark_cause(error)}): "
                "put it back whole and run this step again."
            ) from error
        raise


@contextmanager
def writing(what: str, path: str) -> Iterator[None]:
    """Turns what Spark throws while `what` is written to `path` into one sentence."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        if _UNREACHABLE.search(str(error)):
            raise LakeUnavailableError(
                f"The file system of {path} does not answer while {what} is written "
                f"({spark_cause(error)}): see that HDFS is up and has space, then run this step again."
            ) from error
        raise
