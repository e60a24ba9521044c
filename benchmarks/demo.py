"""How long `make demo` takes in a fresh clone with empty caches, and again, and the memory it holds.

    python benchmarks/demo.py [--rows 50000] [--no-fresh]

The fresh clone lies in a temporary folder and has a home of its own, so that every download happens again.
The platform it starts stands beside a running one (other ports) and is taken down at the end.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from peak_memory import watch_memory
from rich.console import Console
from rich.table import Table

PORT_OFFSET = 20000


def processes_of(home: Path) -> Iterator[psutil.Process]:
    """Every process that was started, directly or not, by this benchmark: they inherit its marker."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("USEDCARS_BENCHMARK_HOME") == str(home):
                yield process
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue


def run_demo(clone: Path, environment: dict[str, str], rows: int) -> float:
    """Seconds of one `make demo`; its output is shown as it comes."""
    started = time.monotonic()
    subprocess.run(["make", "demo", f"ROWS={rows}"], cwd=clone, env=environment, check=True)
    return time.monotonic() - started


def main() -> None:
    """Clone, run the demo twice, print the table, take the platform down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--fresh", action=argparse.BooleanOptionalAction, default=True, help="empty caches")
    arguments = parser.parse_args()
    repository = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory(prefix="uc-") as folder:
        home, clone = Path(folder), Path(folder) / "usedcars"
        subprocess.run(["git", "clone", "--quiet", str(repository), str(clone)], check=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("USEDCARS_")}
        environment |= {"USEDCARS_PORT_OFFSET": str(PORT_OFFSET), "USEDCARS_BENCHMARK_HOME": str(home)}
        if arguments.fresh:
            environment |= {
                "HOME": str(home),
                "XDG_CACHE_HOME": str(home / "cache"),
                "UV_CACHE_DIR": str(home / "uv"),
                "PIP_CACHE_DIR": str(home / "pip"),
            }
        table = Table(title=f"make demo, {arguments.rows:,} rows")
        for column in ("run", "wall time", "peak memory of all processes"):
            table.add_column(column, justify="right")
        try:
            for name in ("fresh clone" if arguments.fresh else "new clone", "second time"):
                with watch_memory(lambda: processes_of(home)) as memory:
                    seconds = run_demo(clone, environment, arguments.rows)
                table.add_row(
                    name, f"{seconds // 60:.0f} min {seconds % 60:.0f} s", f"{memory.peak / 2**30:.2f} GiB"
                )
        finally:
            subprocess.run(["make", "down"], cwd=clone, env=environment, check=False)
        console = Console(width=120)
        console.print(table)
        for command, size in sorted(memory.by_command.items(), key=lambda item: -item[1])[:16]:
            console.print(f"{size / 2**20:8.0f} MiB  {command}", highlight=False)


if __name__ == "__main__":
    main()
