"""What the embedded platform knows of a service: how it is started and when it is ready."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from local_platform.settings import PlatformSettings

PROBE_TIMEOUT_SECONDS = 3


def ask(method: str, url: str, timeout: float = PROBE_TIMEOUT_SECONDS, **options: Any) -> requests.Response:
    """An HTTP answer of a service of this machine, past any proxy; raises requests.RequestException."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=timeout, **options)


def no_preparation() -> None:
    """Nothing has to be done before the first start."""


@dataclass(frozen=True)
class Service:
    """One process of the platform.

    `ready` answers None when the service can be used, and otherwise what is missing, in words.
    It is of use only with those that it `needs`, and starts after them unless it `starts_at_once`. One that
    `yields` leaves the processor, with all that it starts, to those that answer, and half of the cores unless
    it works `on_all_cores`.
    `prepare` runs before the process starts, `finish` after it is ready; both may run any number of times.
    """

    name: str
    command: tuple[str, ...]
    ready: Callable[[], str | None]
    ports: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()
    starts_at_once: bool = False
    yields: bool = False
    on_all_cores: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = no_preparation
    finish: Callable[[], None] = no_preparation


def http_ready(url: str) -> str | None:
    """None when the address answers with success."""
    try:
        answer = ask("GET", url)
    except requests.RequestException as error:
        return f"{url} does not answer ({type(error).__name__})"
    return None if answer.ok else f"{url} answers {answer.status_code}"


def listens(path: Path) -> str | None:
    """Whether somebody accepts connections on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.settimeout(PROBE_TIMEOUT_SECONDS)
            probe.connect(str(path))
        except OSError as error:
            return f"nobody listens on {path} yet ({type(error).__name__})"
    return None


def java_command(
    java: str, heap_mb: int, class_path: str, main: str, *arguments: str, options: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """A JVM with a bounded heap that ends itself, and leaves a trace, when that is too small."""
    return (
        java,
        f"-Xmx{heap_mb}m",
        *options,
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.net.preferIPv4Stack=true",
        "-cp",
        class_path,
        main,
        *arguments,
    )


def setting_of_port(settings: PlatformSettings, port: int) -> str:
    """The setting that names a port, for messages."""
    for name in type(settings).model_fields:
        if name.endswith("_port") and getattr(settings, name) + settings.port_offset == port:
            return f"USEDCARS_{name.upper()}"
    return "USEDCARS_PORT_OFFSET"
