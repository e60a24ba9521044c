"""Bring the services up in the order of their readiness, say how they are, take them down."""

import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from local_platform.class_archive import class_archive, make_class_archive, with_class_archive
from local_platform.dagster import dagster_services
from local_platform.errors import PlatformError
from local_platform.hdfs import hdfs_services
from local_platform.jars import fetch_jars
from local_platform.java import find_java
from local_platform.kafka import kafka_service
from local_platform.mlflow import mlflow_service
from local_platform.ports import holder_of, is_free
from local_platform.processes import MARKER, locked, memory_of, processes_of, stop_processes
from local_platform.service import Service, setting_of_port
from local_platform.settings import HOST, PlatformSettings
from local_platform.spark_jvm import spark_jvm_service
from local_platform.streaming import streaming_services
from local_platform.supervisor import RUNNING_STATES, Supervisor, configuration_file, write_configuration

PROBE_EVERY_SECONDS = 0.3
# What the platform makes in its home folder, the jars aside: nothing else is ever deleted there.
DATA_FOLDERS = ("dagster", "demo", "hdfs", "kafka", "logs", "mlflow", "run")

Report = Callable[[str], None]


@dataclass(frozen=True)
class ServiceStatus:
    """One line of `status`: memory in bytes, uptime in seconds, `missing` None when the service is ready."""

    name: str
    state: str
    pid: int
    memory: int
    ports: tuple[int, ...]
    uptime: float
    missing: str | None


def all_services(settings: PlatformSettings, java: str) -> tuple[Service, ...]:
    """Every service, each behind those that it needs."""
    with_spark = {
        **settings.environment_of_rooms(),
        **with_class_archive(class_archive(settings.jars_folder, java)),
    }
    return (
        *hdfs_services(settings, java),
        kafka_service(settings, java),
        mlflow_service(settings),
        spark_jvm_service(settings, with_spark),
        *dagster_services(settings, with_spark),
        *streaming_services(settings, with_spark),
    )


def with_needs(services: Sequence[Service], names: Collection[str]) -> list[Service]:
    """The named services and all that they need, in order; all of them when none is named."""
    known = {service.name: service for service in services}
    if unknown := sorted(set(names) - set(known)):
        raise PlatformError(f"there is no service {', '.join(unknown)}: the services are {', '.join(known)}")
    wanted = set(names) or set(known)
    for service in reversed(services):
        if service.name in wanted:
            wanted.update(service.needs)
    return [service for service in services if service.name in wanted]


def environment_of_services(settings: PlatformSettings, java: str) -> dict[str, str]:
    """What every service finds in its environment."""
    java_home = Path(java).resolve().parent.parent
    return {
        **settings.service_environment(),
        MARKER: str(settings.home_folder),
        "JAVA_HOME": str(java_home),
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DAGSTER_DISABLE_TELEMETRY": "true",
    }


def bring_up(settings: PlatformSettings, names: Collection[str], report: Report) -> None:
    """Start the named services (all when none is named) and wait until each is ready.

    What runs already is left alone; what an earlier, half-dead start left behind is stopped first.
    Another start or stop of the same platform is waited for.
    Raises PlatformError with the remedy when something is in the way.
    """
    java = find_java()
    _check_disk(settings)
    with _alone(settings, report):
        _bring_up(settings, java, names, report)


def _bring_up(settings: PlatformSettings, java: str, names: Collection[str], report: Report) -> None:
    services = all_services(settings, java)
    wanted = with_needs(services, names)
    report("jars: checking")
    if fetched := fetch_jars(settings.jars_folder, java):
        report(f"jars: {fetched} fetched, checksums verified")
    if any("JDK_JAVA_OPTIONS" in service.environment for service in wanted) and make_class_archive(
        settings.jars_folder, java
    ):
        report("Spark: its classes are archived, so that its processes start sooner")
    supervisor = Supervisor(settings)
    up_already = supervisor.is_up()
    if not up_already:
        _stop_leftovers(settings, report)
    running = (
        {name for name, state in supervisor.states().items() if state.state in RUNNING_STATES}
        if up_already
        else set()
    )
    _check_ports(settings, [service for service in wanted if service.name not in running])
    configuration = write_configuration(settings, services, environment_of_services(settings, java))
    if up_already:
        # What ran with settings that have changed since is started again with the new ones, named or not.
        if restarted := running & supervisor.reload_configuration():
            report(f"settings changed: {', '.join(sorted(restarted))} start again")
            running -= restarted
            wanted = with_needs(services, restarted | {service.name for service in wanted})
            _check_ports(settings, [service for service in wanted if service.name not in running])
    else:
        supervisor.start_daemon(configuration)
    _start_in_order(settings, supervisor, wanted, running, report)


def take_down(settings: PlatformSettings, report: Report) -> None:
    """Stop every service, Supervisor, and whatever an earlier start left running."""
    if settings.home_folder.exists():
        with _alone(settings, report):
            _take_down(settings, report)


def _take_down(settings: PlatformSettings, report: Report) -> None:
    supervisor = Supervisor(settings)
    if supervisor.is_up():
        names = [state.name for state in supervisor.states().values() if state.state in RUNNING_STATES]
        # The clients first: serving leaves Kafka in order, a training leaves HDFS.
        order = [service.name for service in all_services(settings, "java")]
        for name in sorted(names, key=order.index, reverse=True):
            supervisor.stop(name)
            report(f"{name}: stopped")
        daemon = [process for process in processes_of(settings.home_folder) if process.pid != os.getpid()]
        supervisor.shut_down()
        stop_processes(daemon, timeout_seconds=5)
    _stop_leftovers(settings, report)
    for path in (settings.supervisor_socket, settings.code_socket, settings.spark_jvm_socket):
        path.unlink(missing_ok=True)


def statuses(settings: PlatformSettings) -> list[ServiceStatus]:
    """How every service is; empty when the platform is down."""
    supervisor = Supervisor(settings)
    if not supervisor.is_up():
        return []
    states = supervisor.states()
    return [
        ServiceStatus(
            name=service.name,
            state=(state := states[service.name]).state,
            pid=state.pid,
            memory=memory_of(state.pid) if state.pid else 0,
            ports=service.ports,
            uptime=state.uptime,
            missing=service.ready() if state.state == "RUNNING" else state.spawn_error or "it does not run",
        )
        for service in all_services(settings, "java")
        if service.name in states
    ]


def remove_data(settings: PlatformSettings) -> None:
    """Delete DATA_FOLDERS of the home folder; nothing may run there any more, and nothing else is touched."""
    if Supervisor(settings).is_up() or any(processes_of(settings.home_folder)):
        raise PlatformError("the platform is running: 'make down' first, then 'make clean'")
    home = settings.home_folder
    # A folder of such a name elsewhere (/run, ~/logs) is somebody else's: only Supervisor's configuration,
    # written by every start, tells a platform's home folder.
    if not configuration_file(settings).is_file():
        if home.exists() and any((home / name).exists() for name in DATA_FOLDERS):
            raise PlatformError(
                f"{home} was not made by this platform ({configuration_file(settings)} is missing): "
                "set USEDCARS_HOME to the platform's folder, or delete it yourself if you mean it"
            )
        return
    # The sign goes last, so that an interrupted call can be made again.
    for name in (*(name for name in DATA_FOLDERS if name != "run"), "run"):
        entry = home / name
        if entry.is_symlink():
            entry.unlink()
        elif entry.exists():
            shutil.rmtree(entry)


def _alone(settings: PlatformSettings, report: Report) -> AbstractContextManager[None]:
    return locked(
        settings.run_folder / ".lock",
        on_wait=lambda: report("another start or stop of this platform is under way: waiting for it"),
    )


def _listed(ports: tuple[int, ...]) -> str:
    return "port " + str(ports[0]) if len(ports) == 1 else "ports " + ", ".join(map(str, ports))


def _check_disk(settings: PlatformSettings) -> None:
    try:
        settings.home_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlatformError(
            f"the folder {settings.home_folder} cannot be made ({error.strerror}): "
            "set USEDCARS_HOME to another"
        ) from error
    free = shutil.disk_usage(settings.home_folder).free // 2**20
    if free < settings.least_free_disk_mb:
        raise PlatformError(
            f"only {free} MB are free for {settings.home_folder}, fewer than {settings.least_free_disk_mb}: "
            "make room, or set USEDCARS_HOME to a folder on another disk"
        )


def _check_ports(settings: PlatformSettings, services: Sequence[Service]) -> None:
    for service in services:
        for port in service.ports:
            if not is_free(HOST, port):
                raise PlatformError(
                    f"port {port}, which {service.name} needs, is held by {holder_of(port)}: stop it, or set "
                    f"{setting_of_port(settings, port)} or USEDCARS_PORT_OFFSET to move this platform"
                )


def _stop_leftovers(settings: PlatformSettings, report: Report) -> None:
    leftovers = [process for process in processes_of(settings.home_folder) if process.pid != os.getpid()]
    if not leftovers:
        return
    report(f"stopping {len(leftovers)} processes that an earlier start left behind")
    if alive := stop_processes(leftovers, settings.stop_timeout_seconds):
        raise PlatformError(
            f"process {alive[0].pid} of an earlier start cannot be stopped: kill it with 'kill -9'"
        )


def _start_in_order(
    settings: PlatformSettings,
    supervisor: Supervisor,
    wanted: Sequence[Service],
    running: Collection[str],
    report: Report,
) -> None:
    """Start each service as soon as those it needs are ready, side by side, until all are."""
    ready: set[str] = set()
    waiting_since: dict[str, float] = {}
    while len(ready) < len(wanted):
        for service in wanted:
            name = service.name
            if name in ready:
                continue
            if name not in waiting_since:
                if not service.starts_at_once and not ready.issuperset(service.needs):
                    continue
                if name not in running:
                    service.prepare()
                    supervisor.start(name)
                    report(f"{name}: starting")
                waiting_since[name] = time.monotonic()
            missing = _what_is_missing(settings, supervisor, service)
            if missing is None:
                service.finish()
                ready.add(name)
                report(f"{name}: ready" + (f" on {_listed(service.ports)}" if service.ports else ""))
            elif time.monotonic() - waiting_since[name] > settings.ready_timeout_seconds:
                raise PlatformError(
                    f"{name} is not ready after {settings.ready_timeout_seconds:.0f} s ({missing}): "
                    f"read {_log(settings, service)}"
                )
        time.sleep(PROBE_EVERY_SECONDS)


def _what_is_missing(settings: PlatformSettings, supervisor: Supervisor, service: Service) -> str | None:
    if supervisor.states()[service.name].state == "FATAL":
        log = _log(settings, service)
        raise PlatformError(
            f"{service.name} ends again and again ({_last_line(log)}): read {log}, then 'make up' again"
        )
    return service.ready()


def _log(settings: PlatformSettings, service: Service) -> Path:
    return settings.logs_folder / f"{service.name}.log"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1][:300] if lines else "it said nothing"
