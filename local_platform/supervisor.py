"""Supervisor, the process manager: its configuration, its daemon, and its XML-RPC interface."""

import http.client
import os
import re
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport

from local_platform.errors import PlatformError
from local_platform.processes import MARKER
from local_platform.service import Service
from local_platform.settings import PlatformSettings

_DAEMON = """[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisord]
directory={directory}
logfile={logs}/supervisord.log
logfile_maxbytes=5MB
logfile_backups=2
pidfile={run}/supervisord.pid
childlogdir={logs}
umask=027
minfds=1024
"""
# A service that dies is started again, also after a kill -9; its whole process group is stopped with it.
_PROGRAM = """
[program:{name}]
command={command}
directory={directory}
environment={environment}
autostart=false
autorestart=true
startsecs=2
startretries=10
stopsignal=TERM
stopwaitsecs={stop_timeout}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=2
"""

_YIELDING = (sys.executable, "-m", "local_platform.yielding")

RUNNING_STATES = {"STARTING", "RUNNING", "BACKOFF"}
DAEMON_START_SECONDS = 15
# How long supervisord may take to answer, besides what the service that it stops may take.
ANSWER_SECONDS = 10


@dataclass(frozen=True)
class ProgramState:
    """What Supervisor knows of a service; pid is 0 when it does not run, uptime in seconds."""

    name: str
    state: str
    pid: int
    uptime: float
    spawn_error: str


def _escaped(text: str) -> str:
    """A value as Supervisor's configuration wants it: % begins an expansion."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    return '"' + _escaped(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _variable(name: str, value: str) -> str:
    """NAME=value as Supervisor reads it: in quotes of either kind, without escapes.

    Raises PlatformError for a value that can't be written so.
    """
    quote = "'" if '"' in value else '"'
    if quote in value or value != value.strip("'\"") or re.search(r"\s[;#]", value):
        raise PlatformError(
            f"{name} can't be handed to the services ({value[:60]}): use one kind of quotes in it, "
            "none at its ends, and no ; or # behind a space"
        )
    return f"{name}={quote}{_escaped(value)}{quote}"


def configuration_file(settings: PlatformSettings) -> Path:
    """Where Supervisor's configuration lies."""
    return settings.run_folder / "supervisord.conf"


def write_configuration(
    settings: PlatformSettings, services: Iterable[Service], environment: Mapping[str, str]
) -> Path:
    """Write Supervisor's configuration for the services; returns its path."""
    for folder in (settings.run_folder, settings.logs_folder, settings.supervisor_socket.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory = _escaped(str(settings.repository))
    logs = _escaped(str(settings.logs_folder))
    text = _DAEMON.format(
        socket=_escaped(str(settings.supervisor_socket)),
        directory=directory,
        logs=logs,
        run=_escaped(str(settings.run_folder)),
    )
    for service in services:
        pairs = {**environment, **service.environment}
        text += _PROGRAM.format(
            name=service.name,
            command=" ".join(_quoted(word) for word in (*_yielding(service), *service.command)),
            directory=directory,
            environment=",".join(_variable(name, value) for name, value in pairs.items()),
            stop_timeout=settings.stop_timeout_seconds,
            logs=logs,
        )
    file = configuration_file(settings)
    file.write_text(text)
    return file


def _yielding(service: Service) -> tuple[str, ...]:
    if not service.yields:
        return ()
    return (*_YIELDING, "--all-cores") if service.on_all_cores else _YIELDING


class _SocketConnection(http.client.HTTPConnection):
    """A connection that gives up, with an OSError, on a supervisord that has stopped answering."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the Unix socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Supervisor:
    """A running supervisord, reached through its socket."""

    def __init__(self, settings: PlatformSettings) -> None:
        self._settings = settings
        self._socket = settings.supervisor_socket

    @property
    def _proxy(self) -> Any:
        return self._proxy_for(self._settings.stop_timeout_seconds + ANSWER_SECONDS)

    def _proxy_for(self, timeout_seconds: float) -> Any:
        # A connection for each call: one that supervisord's death broke can never be used again.
        transport = SupervisorTransport(serverurl=f"unix://{self._socket}")
        transport._get_connection = lambda: _SocketConnection(self._socket, timeout_seconds)
        return xmlrpc.client.ServerProxy("http://supervisor", transport=transport)

    def is_up(self) -> bool:
        """Whether supervisord answers."""
        if not self._socket.exists():
            return False
        try:
            return bool(self._proxy_for(ANSWER_SECONDS).supervisor.getState()["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def start_daemon(self, configuration: Path) -> None:
        """Start supervisord, which detaches itself."""
        self._socket.unlink(missing_ok=True)
        marked = {**os.environ, MARKER: str(self._settings.home_folder)}
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
        started = subprocess.run(
            command, capture_output=True, text=True, check=False, env=marked, stdin=subprocess.DEVNULL
        )
        until = time.monotonic() + DAEMON_START_SECONDS
        while started.returncode == 0 and time.monotonic() < until:
            if self.is_up():
                return
            time.sleep(0.1)
        said = (started.stderr or started.stdout).strip().splitlines()[-1:]
        raise PlatformError(
            f"Supervisor did not start ({' '.join(said) or 'no answer on its socket'}): "
            f"read {self._settings.logs_folder / 'supervisord.log'}"
        )

    def reload_configuration(self) -> set[str]:
        """Take over a changed configuration; answers the programs that it stopped because they changed."""
        added, changed, removed = self._proxy.supervisor.reloadConfig()[0]
        for name in removed + changed:
            self.stop(name)
            self._proxy.supervisor.removeProcessGroup(name)
        for name in added + changed:
            self._proxy.supervisor.addProcessGroup(name)
        return set(changed)

    def states(self) -> dict[str, ProgramState]:
        """The state of every program."""
        return {
            info["name"]: ProgramState(
                name=info["name"],
                state=info["statename"],
                pid=info["pid"],
                uptime=float(info["now"] - info["start"]) if info["pid"] else 0.0,
                spawn_error=info["spawnerr"],
            )
            for info in self._proxy.supervisor.getAllProcessInfo()
        }

    def _refused(self, what: str, name: str, why: str) -> PlatformError:
        log = self._settings.logs_folder / f"{name}.log"
        return PlatformError(f"Supervisor could not {what} {name} ({why}): read {log}")

    def start(self, name: str) -> None:
        """Start a program without waiting for it."""
        try:
            self._proxy.supervisor.startProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise self._refused("start", name, fault.faultString) from fault

    def stop(self, name: str) -> None:
        """Stop a program and wait until it has ended."""
        try:
            # As a group of one: while it waits for a single process, supervisord keeps a core busy.
            ends = self._proxy.supervisor.stopProcessGroup(name)
        except xmlrpc.client.Fault as fault:
            raise self._refused("stop", name, fault.faultString) from fault
        for end in ends:
            if end["status"] != Faults.SUCCESS:
                raise self._refused("stop", name, end["description"])

    def shut_down(self) -> None:
        """Ask supervisord to stop every program and itself."""
        self._proxy.supervisor.shutdown()
