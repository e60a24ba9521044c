"""The process that keeps a JVM with Spark between trainings."""

import sys
from collections.abc import Mapping
from functools import partial

from local_platform.service import Service, listens
from local_platform.settings import PlatformSettings


def spark_jvm_service(settings: PlatformSettings, environment: Mapping[str, str]) -> Service:
    """A second training need not compile again what the first one's JVM has compiled.

    environment: what it finds beside that of all services.
    """
    return Service(
        name="spark-jvm",
        command=(sys.executable, "-m", "usedcars_assets.resources.jvm_keeper"),
        yields=True,
        on_all_cores=True,
        environment=environment,
        ready=partial(listens, settings.spark_jvm_socket),
    )
