"""The memory that processes hold together, watched from outside."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

SAMPLE_EVERY_SECONDS = 2.0


@dataclass
class PeakMemory:
    """The largest sum of proportional set sizes (shared pages counted once) seen, in bytes."""

    peak: int = 0
    by_command: dict[str, int] = field(default_factory=dict)


def memory_of(processes: Iterable[psutil.Process]) -> dict[str, int]:
    """Bytes of each process, by its id and the end of its command."""
    sizes: dict[str, int] = {}
    for process in processes:
        try:
            memory = process.memory_full_info()
            name = " ".join(process.cmdline()[-2:])[-60:]
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
        sizes[f"{process.pid} {name}"] = getattr(memory, "pss", memory.uss)
    return sizes


@contextmanager
def watch_memory(processes: Callable[[], Iterable[psutil.Process]]) -> Iterator[PeakMemory]:
    """Sample the memory of these processes until the block ends."""
    peak = PeakMemory()
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_EVERY_SECONDS):
            sizes = memory_of(processes())
            if sum(sizes.values()) > peak.peak:
                peak.peak, peak.by_command = sum(sizes.values()), sizes

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it; none when it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
