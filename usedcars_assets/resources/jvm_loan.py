"""A JVM borrowed from its keeper for the Spark session of one run."""

import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import structlog

from usedcars_assets.resources.jvm_keeper import RETURNED

# The keeper starts a JVM, where it has none, before it answers.
_ANSWERS_WITHIN_SECONDS = 120.0
# Py4J's names of objects that Python has been given.
_OF_PYTHON = re.compile(r"o\d+")

_log = structlog.get_logger()


class JvmLoan:
    """Lasts until it is given back or dropped, or until this process ends."""

    def __init__(self, connection: socket.socket, port: int, secret: str) -> None:
        self._connection = connection
        self._gateway = {"PYSPARK_GATEWAY_PORT": str(port), "PYSPARK_GATEWAY_SECRET": secret}

    @classmethod
    def of(cls, path: str, configuration: Mapping[str, str], user: str) -> Self | None:
        """One with a JVM that was started with this configuration for this user of HDFS.

        None when there is no keeper at this path or another run has its JVM.
        """
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_ANSWERS_WITHIN_SECONDS)
            connection.connect(path)
            wanted = {"configuration": dict(sorted(configuration.items())), "user": user}
            connection.sendall(json.dumps(wanted).encode() + b"\n")
            with connection.makefile() as answers:
                answer = json.loads(answers.readline())
            if "refused" not in answer:
                return cls(connection, answer["port"], answer["secret"])
            why = answer["refused"]
        except (OSError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
        connection.close()
        _log.info("no_jvm_lent", path=path, why=why)
        return None

    @contextmanager
    def gateway(self) -> Iterator[None]:
        """Within it pyspark takes this JVM instead of starting one."""
        os.environ.update(self._gateway)
        try:
            yield
        finally:
            for name in self._gateway:
                os.environ.pop(name, None)

    def give_back(self) -> None:
        """After its session has been stopped: pyspark forgets the JVM, and the JVM what pyspark held."""
        from py4j.java_gateway import JavaObject
        from pyspark import SparkContext

        gateway: Any = SparkContext._gateway
        try:
            held = JavaObject("GATEWAY_SERVER", gateway._gateway_client).getGateway().getBindings().keySet()
            held.retainAll([name for name in held if not _OF_PYTHON.fullmatch(name)])
            gateway.close()
            self._connection.sendall(RETURNED)
        except Exception as error:  # it will start another
            _log.warning("jvm_not_given_back", why=f"{type(error).__name__}: {error}")
        finally:
            SparkContext._gateway = SparkContext._jvm = None
            self._connection.close()

    def drop(self) -> None:
        """Its JVM is to end, if it still lives."""
        self._connection.close()
