"""Serving and live metrics, two processes of the streaming application."""

import sys
from collections.abc import Mapping
from functools import partial

from local_platform.service import Service, http_ready
from local_platform.settings import PlatformSettings


def streaming_services(settings: PlatformSettings, environment: Mapping[str, str]) -> tuple[Service, ...]:
    """All are up once they are alive: serving waits for a first model as long as it takes.

    environment: what they find beside that of all services.
    """
    serving = partial(_serving, settings, environment)
    live_metrics = Service(
        name="live-metrics",
        command=(sys.executable, "-m", "streaming_app.live_metrics"),
        ports=(settings.port("live_metrics"),),
        needs=("kafka",),
        yields=True,
        environment=environment,
        ready=partial(http_ready, f"{settings.url('live_metrics')}/health/live"),
    )
    standby = (serving("serving-standby", "serving_standby"),) if settings.serving_standby else ()
    return serving("serving", "serving"), *standby, live_metrics


def _serving(settings: PlatformSettings, environment: Mapping[str, str], name: str, port: str) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-m", "streaming_app.serving"),
        ports=(settings.port(port),),
        needs=("kafka", "mlflow"),
        environment={
            **environment,
            "USEDCARS_SERVING_PORT": str(settings.port(port)),
            "USEDCARS_SERVING_INSTANCE": name,
        },
        ready=partial(http_ready, f"{settings.url(port)}/health/live"),
    )
