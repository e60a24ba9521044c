"""Serving and live metrics, two processes of the streaming application."""

import sys
from functools import partial

from local_platform.service import Service, http_ready
from local_platform.settings import PlatformSettings


def streaming_services(settings: PlatformSettings) -> tuple[Service, ...]:
    """All are up once they are alive: serving waits for a first model as long as it takes."""
    live_metrics = Service(
        name="live-metrics",
        command=(sys.executable, "-m", "streaming_app.live_metrics"),
        ports=(settings.port("live_metrics"),),
        needs=("kafka",),
        yields=True,
        ready=partial(http_ready, f"{settings.url('live_metrics')}/health/live"),
    )
    standby = (_serving(settings, "serving-standby", "serving_standby"),) if settings.serving_standby else ()
    return _serving(settings, "serving", "serving"), *standby, live_metrics


def _serving(settings: PlatformSettings, name: str, port: str) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-m", "streaming_app.serving"),
        ports=(settings.port(port),),
        needs=("kafka", "mlflow"),
        environment={"USEDCARS_SERVING_PORT": str(settings.port(port)), "USEDCARS_SERVING_INSTANCE": name},
        ready=partial(http_ready, f"{settings.url(port)}/health/live"),
    )
