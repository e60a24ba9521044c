"""Serving as the rollout sees it, wherever it runs."""

import http.client
import xmlrpc.client
from typing import Any, Literal, Protocol

from dagster import ConfigurableResource
from pydantic import Field

from usedcars_assets.failures import UnavailableError

_SERVING = "serving"
_DEAD = ("BACKOFF", "FATAL", "UNKNOWN")
_MOST_ENDS = 2
# Faults of Supervisor's XML-RPC interface: http://supervisord.org/api.html
_BAD_NAME, _ALREADY_STARTED, _NOT_RUNNING = 10, 60, 70


class Deployment(Protocol):
    """What the rollout needs of the place where serving runs."""

    def describe(self) -> str:
        """Where serving runs and how it is; UnavailableError if that can't be found out."""
        ...

    def start(self) -> None:
        """Starts serving if it does not run; does not wait until it is ready."""
        ...

    def restart(self) -> None:
        """Stops serving, if it runs, and starts it; does not wait until it is ready."""
        ...

    def why_not(self, version: str) -> str | None:
        """Why the version will not come into service by itself; None as long as it may."""
        ...


class SupervisedServing:
    """Serving as a program of Supervisor on this machine."""

    def __init__(self, socket: str, serving_url: str) -> None:
        from supervisor.xmlrpc import SupervisorTransport

        self._socket, self._serving_url = socket, serving_url
        self._starts: set[int] = set()
        transport = SupervisorTransport(None, None, serverurl=f"unix://{socket}")
        self._server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)

    def describe(self) -> str:
        """Its state in Supervisor."""
        info = self._call("getProcessInfo", _SERVING)
        return f"{info['name']} is {info['statename']} under Supervisor at {self._socket}"

    def start(self) -> None:
        """Starts the program unless it runs."""
        self._starts.clear()
        self._call("startProcess", _SERVING, False, accept=_ALREADY_STARTED)

    def restart(self) -> None:
        """Stops the program and waits for its end; starts it and does not wait."""
        self._call("stopProcess", _SERVING, True, accept=_NOT_RUNNING)
        self.start()

    def why_not(self, version: str) -> str | None:
        """What serving says against the version, or Supervisor of a program that ends again and again."""
        info = self._call("getProcessInfo", _SERVING)
        if info["statename"] in _DEAD:
            return f"serving did not start ({info['statename']}: {info['spawnerr']})"
        # Counted in any state: a program that ends in a steady rhythm may never be met RUNNING.
        self._starts.add(info["start"])
        ends = len(self._starts) - 1
        if ends >= _MOST_ENDS:
            return f"serving did not start (it ended by itself {ends} times: see {info['logfile']})"
        return self._refusal(version)

    def _refusal(self, version: str) -> str | None:
        import requests

        try:
            found = requests.get(f"{self._serving_url}/model", timeout=5).json()
            refusal = found["refused"].get(version)
        except (requests.RequestException, ValueError, KeyError, AttributeError):  # it is starting
            return None
        return str(refusal) if refusal else None

    def _call(self, method: str, *arguments: object, accept: int | None = None) -> Any:
        try:
            return getattr(self._server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == accept:
                return None
            known = f"no program named {_SERVING}" if fault.faultCode == _BAD_NAME else fault.faultString
            raise UnavailableError(
                f"Supervisor at {self._socket} refused {method} ({known}): "
                "start the platform's serving, then materialise serving_rollout again."
            ) from fault
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"There is no Supervisor at {self._socket} ({error}): start the platform with make up, or "
                "name its socket in USEDCARS_SUPERVISOR_SOCKET, then materialise serving_rollout again."
            ) from error


class ServingDeployment(ConfigurableResource[Any]):
    """The deployment that the settings name."""

    kind: Literal["supervisor"] = Field(default="supervisor", description="What runs serving.")
    supervisor_socket: str = Field(description="Unix socket of Supervisor's XML-RPC interface.")

    serving_url: str = Field(description="Serving's page, which says what it serves and what it refused.")

    def connect(self) -> Deployment:
        """Serving, to look at and to start."""
        return SupervisedServing(self.supervisor_socket, self.serving_url)
