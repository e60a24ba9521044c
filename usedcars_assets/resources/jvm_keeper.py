"""Keeps one JVM with Spark between runs, so that what it has compiled need not be compiled again.

    python -m usedcars_assets.resources.jvm_keeper

It listens on a Unix socket for one line of JSON, {"configuration": {…}, "user": …}, and answers with another,
{"port": …, "secret": …} of a JVM that was started with that configuration, or {"refused": "why"}. The
connection is the loan: a JVM whose borrower is gone without the word `returned` is ended, with whatever it
still did.
"""

import json
import os
import signal
import socketserver
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

import structlog

from usedcars_assets.settings import settings

RETURNED = b"returned\n"

MOST_LOANS = 20
"""What past runs leave behind in a JVM must not add up for ever."""
_LONGEST_LINE = 1_000_000
_A_MOMENT_SECONDS = 5.0
_END_SECONDS = 10.0

_log = structlog.get_logger()


@dataclass
class _Jvm:
    process: "Popen[bytes]"
    port: int
    secret: str
    started_as: bytes
    loans: int = 0


class JvmKeeper(socketserver.ThreadingUnixStreamServer):
    """Serves loans, one at a time, until it is shut down; ends a JVM that nobody has asked for since long."""

    daemon_threads = True

    def __init__(self, path: Path, idle_seconds: float) -> None:
        path.unlink(missing_ok=True)
        before = os.umask(0o177)  # the secret opens a process that runs whatever it is told
        try:
            super().__init__(str(path), _Loan)
        finally:
            os.umask(before)
        self.lent = threading.Lock()
        self._idle_seconds = idle_seconds
        self._jvm: _Jvm | None = None
        self._last_used = time.monotonic()

    def service_actions(self) -> None:
        """Between two connections."""
        if self._jvm and time.monotonic() - self._last_used > self._idle_seconds:
            if not self.lent.acquire(blocking=False):
                return
            try:
                self.end_jvm("nobody has asked for it since long")
            finally:
                self.lent.release()

    def jvm(self, wanted: bytes) -> _Jvm:
        """One that was started as wanted; the caller holds `lent`."""
        if self._jvm and self._jvm.process.poll() is not None:
            self._jvm = None
        if self._jvm and self._jvm.started_as != wanted:
            self.end_jvm("another one is wanted")
        if self._jvm is None:
            self._jvm = _start(wanted)
            _log.info("jvm_started", pid=self._jvm.process.pid)
        return self._jvm

    def take_back(self, returned: bool) -> None:
        """After a loan; the caller holds `lent`."""
        self._last_used = time.monotonic()
        if self._jvm is None:
            return
        self._jvm.loans += 1
        if not returned:
            self.end_jvm("its run ended without giving it back")
        elif self._jvm.loans >= MOST_LOANS:
            self.end_jvm("it has served many runs")

    def end_jvm(self, why: str) -> None:
        """Lets it clean up, for a while."""
        jvm, self._jvm = self._jvm, None
        if jvm is None:
            return
        _log.info("jvm_ended", pid=jvm.process.pid, why=why)
        assert jvm.process.stdin is not None  # noqa: S101  pyspark gives it one, at whose end the JVM ends
        with suppress(OSError):
            jvm.process.stdin.close()
        try:
            jvm.process.wait(_END_SECONDS)
        except TimeoutExpired:
            jvm.process.kill()
            jvm.process.wait()


class _Loan(socketserver.StreamRequestHandler):
    server: JvmKeeper

    def handle(self) -> None:
        if not (wanted := self.rfile.readline(_LONGEST_LINE)):
            return  # someone has looked whether it listens
        # A moment, for a borrower that has just hung up.
        if not self.server.lent.acquire(timeout=_A_MOMENT_SECONDS):
            self._say(refused="another run has it")
            return
        try:
            returned = False
            try:
                jvm = self.server.jvm(wanted)
                self._say(port=jvm.port, secret=jvm.secret)
                returned = self.rfile.readline(_LONGEST_LINE) == RETURNED
            finally:
                self.server.take_back(returned)
        except Exception as error:
            _log.exception("loan_failed")
            with suppress(OSError):
                self._say(refused=f"{type(error).__name__}: {error}")
        finally:
            self.server.lent.release()

    def _say(self, **words: Any) -> None:
        self.wfile.write(json.dumps(words).encode() + b"\n")


def _start(wanted: bytes) -> _Jvm:
    from pyspark import SparkConf
    from pyspark.java_gateway import launch_gateway

    asked = json.loads(wanted)
    os.environ["HADOOP_USER_NAME"] = asked["user"]
    configuration = SparkConf(loadDefaults=False)
    configuration.setAll(asked["configuration"].items())
    gateway = launch_gateway(configuration)  # type: ignore[no-untyped-call]
    parameters = gateway.java_parameters
    gateway.close()  # who borrows it has connections of his own
    return _Jvm(gateway.proc, parameters.port, parameters.auth_token, wanted)


def main() -> None:
    """Until SIGTERM or SIGINT."""
    values = settings()
    path = Path(values.spark_jvm_socket)
    path.parent.mkdir(parents=True, exist_ok=True)
    with JvmKeeper(path, values.spark_jvm_idle_seconds) as keeper:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, lambda *_: sys.exit(0))
        try:
            keeper.serve_forever(poll_interval=1)
        finally:
            keeper.end_jvm("the keeper ends")
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
