"""The processes of a platform, also those that an earlier, killed Supervisor left behind."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

# Every process of a platform inherits this variable from Supervisor; its value is the home folder.
MARKER = "USEDCARS_PLATFORM_PROCESS_OF"


@contextmanager
def locked(file: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock between processes; it ends with its holder. `on_wait` tells that another has it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def processes_of(home_folder: Path) -> Iterator[psutil.Process]:
    """Every living process of the platform with that home folder, Supervisor included."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == str(home_folder) and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def stop_processes(processes: list[psutil.Process], timeout_seconds: float) -> list[psutil.Process]:
    """Ask processes to end, then end them; returns those that live on nevertheless."""
    for process in processes:
        try:
            process.terminate()
        except psutil.Error:
            continue
    _, alive = psutil.wait_procs(processes, timeout=timeout_seconds)
    for process in alive:
        try:
            process.kill()
        except psutil.Error:
            continue
    _, alive = psutil.wait_procs(alive, timeout=5)
    return list(alive)


def memory_of(pid: int) -> int:
    """Resident bytes of a process and all below it; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.Error:
            continue
    return total
