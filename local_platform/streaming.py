"""Serving and live metrics, two processes of the streaming application."""

import sys
from functools import partial

from local_platform.service import Service, http_ready
from local_platform.settings import PlatformSettings


def streaming_services(settings: PlatformSettings) -> tuple[Service, Service]:
    """Both are up once they are alive: serving waits for a first model as long as it takes."""
    serving = Service(
        name="serving",
        command=(sys.executable, "-m", "streaming_app.serving"),
        ports=(settings.port("serving"),),
        needs=("kafka", "mlflow"),
        ready=partial(http_ready, f"{settings.url('serving')}/health/live"),
    )
    live_metrics = Service(
        name="live-metrics",
        command=(sys.executable, "-m", "streaming_app.live_metrics"),
        ports=(settings.port("live_metrics"),),
        needs=("kafka",),
        ready=partial(http_ready, f"{settings.url('live_metrics')}/health/live"),
    )
    return serving, live_metrics
