"""Health and metrics of a process over HTTP."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

Check = Callable[[], str | None]


@dataclass(frozen=True)
class Page:
    """What a path shows; of what it names a browser loads only what `allows` says (a security policy)."""

    body: bytes
    content_type: str
    allows: str = ""


class Status:
    """What the process is doing, set by its main thread, read by the health page."""

    def __init__(self, doing: str) -> None:
        self._not_ready: str | None = doing
        self._not_alive: str | None = None
        self._model: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    def not_ready(self, why: str) -> None:
        """Say why the process does not do its work yet."""
        self._not_ready = why

    def ready(self) -> None:
        """Say that the process does its work."""
        self._not_ready = None

    def dead(self, why: str) -> None:
        """Say that the process has to be started anew."""
        self._not_alive = why

    def serve(self, name: str, version: str) -> None:
        """Say which model version answers."""
        self._model = {"name": name, "version": version, "role": "active"}
        self._refused.pop(version, None)

    def stand_by(self, name: str, version: str) -> None:
        """Say that the process is ready to answer with a version when the active process ends."""
        self._model = {"name": name, "version": version, "role": "standby"}
        self._not_ready = None

    def refuse(self, version: str, why: str) -> None:
        """Say why a version that the alias names is not served."""
        self._refused = {version: why}

    def model(self) -> dict[str, object]:
        """The model (name, version), the process's role, and the version last refused, with the reason."""
        return {**self._model, "refused": self._refused}

    def why_not_ready(self) -> str | None:
        """Why the process is not ready, None when it is."""
        return self._not_alive or self._not_ready

    def why_not_alive(self) -> str | None:
        """Why the process should be started anew, None when it is well."""
        return self._not_alive


def start_health_server(
    host: str,
    port: int,
    status: Status,
    metrics: Sequence[Collector],
    pages: Mapping[str, Callable[[str], Page]],
) -> int:
    """Serve /health/live, /health/ready (200, or 503 with the reason), /metrics (Prometheus), /model (JSON).

    Besides the `pages`, by path, each made from its query string. Port 0 takes any free one. Returns the
    port. Raises OSError when the port is taken.
    """

    registry = CollectorRegistry()
    for collector in metrics:
        registry.register(collector)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path in pages:
                page = pages[path](query)
                policy = f"default-src 'none'; frame-ancestors 'none'; {page.allows}"
                self._answer(200, page.body, page.content_type, {"Content-Security-Policy": policy})
            elif self.path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif self.path == "/model":
                self._answer(200, json.dumps(status.model()).encode(), "application/json")
            elif self.path in checks:
                why_not = checks[self.path]()
                self._answer(503 if why_not else 200, (why_not or "ok").encode() + b"\n", "text/plain")
            else:
                self._answer(404, b"there are " + ", ".join(sorted(paths)).encode() + b"\n", "text/plain")

        def _answer(
            self, code: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
        ) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the log for what matters."""

    checks: dict[str, Check] = {
        "/health/live": status.why_not_alive,
        "/health/ready": status.why_not_ready,
    }
    paths = {*checks, *pages, "/metrics", "/model"}
    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise OSError(
            f"the health page can't have port {port} of {host} ({error.strerror}): "
            "end what uses it, or set USEDCARS_SERVING_PORT or USEDCARS_LIVE_METRICS_PORT to a free one"
        ) from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return int(server.server_address[1])
