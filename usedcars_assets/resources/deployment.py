"""Serving as the rollout sees it, wherever it runs."""

import http.client
import xmlrpc.client
from collections.abc import Iterable
from typing import Any, Literal, Protocol

from dagster import ConfigurableResource
from pydantic import Field

from usedcars_assets.failures import UnavailableError

_SERVING = "serving"
_STANDBY = "serving-standby"
_DEAD = ("BACKOFF", "FATAL", "UNKNOWN")
_MOST_ENDS = 2
# Faults of Supervisor's XML-RPC interface: http://supervisord.org/api.html
_BAD_NAME, _ALREADY_STARTED, _SUCCESS = 10, 60, 80


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


def refusal(serving_urls: Iterable[str], version: str) -> str | None:
    """Why one of the processes with these pages refuses the version; None if none of them does."""
    import requests

    for url in serving_urls:
        try:
            found = requests.get(f"{url}/model", timeout=5).json()
            why = found["refused"].get(version)
        except (requests.RequestException, ValueError, KeyError, AttributeError):  # it is starting
            continue
        if why:
            return str(why)
    return None


class SupervisedServing:
    """Serving as a program of Supervisor on this machine, and its standby where there is one."""

    def __init__(self, socket: str, serving_urls: list[str]) -> None:
        from supervisor.xmlrpc import SupervisorTransport

        self._socket, self._serving_urls = socket, serving_urls
        self._starts: dict[str, set[int]] = {}
        transport = SupervisorTransport(None, None, serverurl=f"unix://{socket}")
        self._server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)

    def describe(self) -> str:
        """Its state in Supervisor."""
        states = " and ".join(f"{info['name']} is {info['statename']}" for info in self._programs())
        return f"{states} under Supervisor at {self._socket}"

    def start(self) -> None:
        """Starts the programs unless they run."""
        self._starts.clear()
        for info in self._programs():
            self._call("startProcess", info["name"], False, accept=_ALREADY_STARTED)

    def restart(self) -> None:
        """Stops the programs and waits for their end; starts them and does not wait."""
        for info in self._programs():
            # As a group of one: while it waits for a single process, supervisord keeps a core busy.
            for end in self._call("stopProcessGroup", info["name"]):
                if end["status"] != _SUCCESS:
                    raise self._refused("stopProcessGroup", end["description"])
        self.start()

    def why_not(self, version: str) -> str | None:
        """What serving says against the version, or Supervisor of programs that end again and again."""
        ends = [self._end(info) for info in self._programs()]
        return ends[0] if all(ends) else refusal(self._serving_urls, version)

    def _programs(self) -> list[dict[str, Any]]:
        """What Supervisor knows of serving, and of its standby."""
        known = {info["name"]: info for info in self._call("getAllProcessInfo")}
        first = known.get(_SERVING) or self._call("getProcessInfo", _SERVING)
        return [first, known[_STANDBY]] if _STANDBY in known else [first]

    def _end(self, info: dict[str, Any]) -> str | None:
        """Why a program will not run by itself; None as long as it may."""
        name = info["name"]
        if info["statename"] in _DEAD:
            return f"{name} did not start ({info['statename']}: {info['spawnerr']})"
        # Counted in any state: a program that ends in a steady rhythm may never be met RUNNING.
        starts = self._starts.setdefault(name, set())
        starts.add(info["start"])
        ends = len(starts) - 1
        if ends >= _MOST_ENDS:
            return f"{name} did not start (it ended by itself {ends} times: see {info['logfile']})"
        return None

    def _refused(self, method: str, why: str) -> UnavailableError:
        return UnavailableError(
            f"Supervisor at {self._socket} refused {method} ({why}): "
            "start the platform's serving, then materialise serving_rollout again."
        )

    def _call(self, method: str, *arguments: object, accept: int | None = None) -> Any:
        try:
            return getattr(self._server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == accept:
                return None
            known = f"no program named {_SERVING}" if fault.faultCode == _BAD_NAME else fault.faultString
            raise self._refused(method, known) from fault
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"There is no Supervisor at {self._socket} ({error}): start the platform with make up, or "
                "name its socket in USEDCARS_SUPERVISOR_SOCKET, then materialise serving_rollout again."
            ) from error


class ServingDeployment(ConfigurableResource[Any]):
    """The deployment that the settings name."""

    kind: Literal["supervisor", "kubernetes"] = Field(default="supervisor", description="What runs serving.")
    supervisor_socket: str = Field(default="", description="Unix socket of Supervisor's XML-RPC interface.")

    serving_urls: list[str] = Field(
        default=[],
        description="The pages of serving's processes, which say what they serve and what they refused.",
    )
    namespace: str = Field(default="usedcars", description="Kubernetes namespace of serving.")
    name: str = Field(default="serving", description="Name of serving's Deployment.")

    def connect(self) -> Deployment:
        """Serving, to look at and to start."""
        if self.kind == "kubernetes":
            from usedcars_assets.resources.kubernetes_serving import KubernetesServing

            return KubernetesServing(self.namespace, self.name)
        return SupervisedServing(self.supervisor_socket, self.serving_urls)
