"""Dagster's webserver and daemon, and the one server of the project's code that both ask."""

import json
import sys
from collections.abc import Mapping
from functools import partial

import requests

from local_platform.service import PROBE_TIMEOUT_SECONDS, Service, ask, http_ready, listens
from local_platform.settings import HOST, PlatformSettings

_CODE_LOCATION = "usedcars"

# One training at a time: the machine's cores are shared with serving. A run whose process is gone is marked
# failed by the monitor. The queue is looked at each second, as a training waits in it for up to five else.
_INSTANCE = """nux:
  enabled: false
telemetry:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 4
    tag_concurrency_limits:
      - key: usedcars/training
        limit: 1
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 1
run_retries:
  enabled: true
  max_retries: 0
run_monitoring:
  enabled: true
  poll_interval_seconds: 15
  start_timeout_seconds: 180
retention:
  schedule:
    purge_after_days: 30
  sensor:
    purge_after_days:
      skipped: 1
      failure: 30
      success: 30
"""

_DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"
_LOCATION = (
    "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus "
    "locationOrLoadError { __typename ... on PythonError { message } } } } } }"
)


def dagster_services(
    settings: PlatformSettings, environment: Mapping[str, str]
) -> tuple[Service, Service, Service]:
    """The code server (assets, sensors, runs), the webserver (UI, GraphQL) and the daemon (ticks, run queue).

    environment: what the code finds beside that of all services.
    """
    folder = settings.home_folder / "dagster"
    workspace = folder / "workspace.yaml"

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dagster.yaml").write_text(_INSTANCE)
        # With the repository's own, both would load the code themselves, the daemon anew each minute.
        server = {"socket": str(settings.code_socket), "location_name": _CODE_LOCATION}
        workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}))

    code = Service(
        name="dagster-code",
        command=(
            *(sys.executable, "-m", "dagster", "api", "grpc", "--socket", str(settings.code_socket)),
            *("--module-name", "usedcars_assets.definitions", "--location-name", _CODE_LOCATION),
            "--use-python-environment-entry-point",
        ),
        needs=("datanode", "kafka", "mlflow"),
        yields=True,  # a training does not slow down the answers
        starts_at_once=True,  # loading the code takes a while, and asks nobody
        environment=environment,
        prepare=prepare,
        ready=partial(listens, settings.code_socket),
    )
    webserver = Service(
        name="dagster-webserver",
        command=(
            *(sys.executable, "-m", "dagster_webserver", "-w", str(workspace)),
            *("--host", HOST, "--port", str(settings.port("dagster"))),
        ),
        ports=(settings.port("dagster"),),
        needs=("dagster-code",),
        yields=True,
        ready=partial(_code_ready, settings),
    )
    daemon = Service(
        name="dagster-daemon",
        command=(sys.executable, "-m", "dagster._daemon", "run", "-w", str(workspace)),
        needs=("datanode", "kafka", "mlflow", "dagster-webserver"),
        yields=True,
        ready=partial(_daemon_ready, settings),
    )
    return code, webserver, daemon


def graphql(
    settings: PlatformSettings, query: str, variables: dict[str, object] | None = None
) -> dict[str, object]:
    """What Dagster's GraphQL answers; raises requests.RequestException when it does not."""
    answer = ask(
        "POST",
        f"{settings.url('dagster')}/graphql",
        json={"query": query, "variables": variables or {}},
        timeout=4 * PROBE_TIMEOUT_SECONDS,
    )
    answer.raise_for_status()
    document: dict[str, object] = answer.json()
    if "errors" in document:
        raise requests.RequestException(f"Dagster does not understand the question: {document['errors']}")
    return document["data"]  # type: ignore[return-value]


def _code_ready(settings: PlatformSettings) -> str | None:
    """Whether the webserver answers and has loaded the code location."""
    if (missing := http_ready(f"{settings.url('dagster')}/server_info")) is not None:
        return missing
    try:
        entries = graphql(settings, _LOCATION)["workspaceOrError"]["locationEntries"]  # type: ignore[index]
    except requests.RequestException as error:
        return f"Dagster's GraphQL does not answer yet ({type(error).__name__})"
    for entry in entries:
        outcome = entry["locationOrLoadError"]
        if entry["loadStatus"] != "LOADED" or outcome is None:
            return f"the code location {entry['name']} is loading"
        if outcome["__typename"] == "PythonError":
            return f"the code location {entry['name']} does not load: {outcome['message'].strip()[:300]}"
    return None


def _daemon_ready(settings: PlatformSettings) -> str | None:
    """Whether every daemon that is needed has sent a heartbeat."""
    try:
        health = graphql(settings, _DAEMONS)["instance"]["daemonHealth"]  # type: ignore[index]
    except requests.RequestException as error:
        return f"Dagster's GraphQL does not answer ({type(error).__name__})"
    late = [
        status["daemonType"]
        for status in health["allDaemonStatuses"]
        if status["required"] and not status["healthy"]
    ]
    return f"no heartbeat yet of {', '.join(late)}" if late else None
