"""A JVM that outlives the runs that borrow it, one after the other."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from local_platform.service import listens
from usedcars_assets.resources.jvm_keeper import MOST_LOANS, RETURNED

pytestmark = pytest.mark.services

# Tells the JVM of its session and works until its input ends, or until it is killed.
RUN = """
import sys
from usedcars_assets.resources.spark import SharedSpark

spark = SharedSpark(master="local[1]", driver_memory=sys.argv[2], jvm_keeper=sys.argv[1])
session = spark.spark_session
assert session.range(3).count() == 3
print("jvm", session._jvm.java.lang.ProcessHandle.current().pid(), flush=True)
sys.stdin.read()
spark.teardown_after_execution(None)
"""
IDLE_SECONDS = 20.0
PATIENCE = 60.0


class Keeper:
    """The keeper's process, and runs that ask it."""

    def __init__(self, path: Path) -> None:
        self.socket = path
        self.process = subprocess.Popen(
            [sys.executable, "-m", "usedcars_assets.resources.jvm_keeper"],
            env={
                **os.environ,
                "USEDCARS_SPARK_JVM_SOCKET": str(path),
                "USEDCARS_SPARK_JVM_IDLE_SECONDS": str(IDLE_SECONDS),
            },
        )
        self._runs: list[subprocess.Popen[str]] = []

    def begin_run(self, memory: str = "512m") -> "tuple[subprocess.Popen[str], psutil.Process]":
        """A run and its JVM."""
        run = subprocess.Popen(
            [sys.executable, "-c", RUN, str(self.socket), memory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._runs.append(run)
        assert run.stdout is not None
        pid = next(line.split()[1] for line in run.stdout if line.startswith("jvm "))
        return run, psutil.Process(int(pid))

    def complete_run(self, memory: str = "512m") -> psutil.Process:
        """The JVM of a run that has ended well."""
        run, jvm = self.begin_run(memory)
        end(run)
        return jvm

    def is_parent_of(self, jvm: psutil.Process) -> bool:
        return jvm.ppid() == self.process.pid

    def stop(self) -> None:
        for run in self._runs:
            run.kill()
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0


def end(run: "subprocess.Popen[str]") -> None:
    run.communicate(timeout=PATIENCE)
    assert run.returncode == 0


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    with TemporaryDirectory(prefix="uc-") as folder:
        keeper = Keeper(Path(folder) / "spark.sock")
        try:
            deadline = time.monotonic() + PATIENCE
            while listens(keeper.socket) is not None:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield keeper
        finally:
            keeper.stop()


def test_a_second_run_gets_the_warm_jvm_of_the_first_and_nobody_else_may_ask_for_it(keeper: Keeper) -> None:
    first = keeper.complete_run()
    assert keeper.is_parent_of(first)
    assert keeper.complete_run() == first
    assert keeper.socket.stat().st_mode & 0o777 == 0o600


def test_the_jvm_of_a_killed_run_ends_with_it_and_the_next_run_gets_another(keeper: Keeper) -> None:
    run, jvm = keeper.begin_run()
    run.send_signal(signal.SIGKILL)
    assert not psutil.wait_procs([jvm], timeout=PATIENCE)[1]
    assert keeper.complete_run() != jvm


def test_a_run_beside_another_starts_its_own_jvm(keeper: Keeper) -> None:
    one, lent = keeper.begin_run()
    other, own = keeper.begin_run()
    assert keeper.is_parent_of(lent)
    assert own.ppid() == other.pid
    end(other)
    end(one)
    assert keeper.complete_run() == lent


def test_a_run_with_other_settings_gets_a_jvm_that_was_started_with_them(keeper: Keeper) -> None:
    before = keeper.complete_run()
    other = keeper.complete_run("640m")
    assert keeper.is_parent_of(other)
    assert "-Xmx640m" in other.cmdline()
    assert not psutil.wait_procs([before], timeout=PATIENCE)[1]


def test_a_jvm_that_has_served_many_runs_is_followed_by_another(keeper: Keeper) -> None:
    def port_of_a_loan() -> int:
        """Of a run that returns it at once."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(keeper.socket))
            wanted = {"configuration": {"spark.driver.memory": "576m"}, "user": "usedcars"}
            connection.sendall(json.dumps(wanted).encode() + b"\n")
            port = json.loads(connection.makefile().readline())["port"]
            connection.sendall(RETURNED)
            return int(port)

    *ports, other = [port_of_a_loan() for _ in range(MOST_LOANS + 1)]
    assert len(set(ports)) == 1
    assert other not in ports


def test_a_jvm_that_nobody_asks_for_ends_after_a_while(keeper: Keeper) -> None:
    jvm = keeper.complete_run("640m")
    assert not psutil.wait_procs([jvm], timeout=IDLE_SECONDS / 4)[0]
    assert not psutil.wait_procs([jvm], timeout=IDLE_SECONDS + PATIENCE)[1]
