"""Raw CSV to a model: this platform beside what a data scientist writes in a notebook, on the same rows.

    python benchmarks/training.py [--rows 30000 300000] [--only platform spark pandas] [--most-minutes 120]
        [--more 0.01] [--keep docs/benchmarks]

- platform: HDFS, Kafka, MLflow and Dagster are up; the time runs from the upload until the version is
  registered, with the platform's defaults. Its memory is that of all these services with the training.
  With --more, that part of the rows comes as a batch of its own, once the first version is in service.
- spark: peers/spark_notebook.py, Spark ML as its guide has it.
- pandas: peers/pandas_notebook.py, a stack of scikit-learn and XGBoost in one process.

All leave the same test rows out, those of the platform, and have two cores. --keep adds what is found to
training.json in a folder, and makes its table and plot anew.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import requests
from peak_memory import family, watch_memory
from rich.console import Console
from rich.table import Table
from separate_runs import CORES, generate, measured, spark_session

from local_platform.platform import bring_up, take_down
from local_platform.processes import processes_of
from local_platform.settings import PlatformSettings

PEERS = Path(__file__).parent / "peers"
NAMES = {
    "platform": "usedcars",
    "more": "usedcars, a small batch after it",
    "spark": "Spark ML notebook",
    "pandas": "pandas, scikit-learn, XGBoost",
}
PORT_OFFSET = 21_000
MOST_BYTES = 24 * 2**30
# Without spark-jvm a training's JVM would be one of Dagster's processes, which keep to half of the cores.
SERVICES = ("datanode", "kafka", "mlflow", "dagster-webserver", "dagster-daemon", "spark-jvm")
FOR_MORE = ("serving",)
UNDER_WAY = """{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}) {
  ... on Runs { results { runId } }
} }"""


@dataclass(frozen=True)
class Outcome:
    """What a run took and reached; `failed` says why there are no errors."""

    run: str
    rows: int
    megabytes: float
    seconds: float
    peak_gib: float
    rmse: float | None = None
    mae: float | None = None
    r2: float | None = None
    test_rows: int | None = None
    failed: str = ""


def write_test_ids(raw: Path, test_ids: Path) -> None:
    """The listing ids that the platform holds out."""
    from usedcars_assets.pipeline.cleaning import clean_listings
    from usedcars_assets.pipeline.features import FeatureSettings, split_rows
    from usedcars_assets.pipeline.raw_listings import read_raw_listings

    spark = spark_session("4g")
    with clean_listings(read_raw_listings(spark, raw.as_uri())) as batch:
        ids = split_rows(batch.cleaned, FeatureSettings()).where("split = 'test'").select("listing_id")
        test_ids.write_text("\n".join(row.listing_id for row in ids.toLocalIterator()), encoding="utf-8")
    spark.stop()


def platform(raw: Path, rows: int, most_seconds: float, more: Path | None) -> list[Outcome]:
    """Upload to registered version, on a platform of its own; and the same for the batch `more` after it."""
    console = Console()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="uc-", ignore_cleanup_errors=True) as home:
        settings = PlatformSettings(
            home=Path(home),
            jars=Path(__file__).parents[1] / ".usedcars" / "jars",
            port_offset=PORT_OFFSET,
            training_memory_mb=2048 if rows < 100_000 else 6144,
        )
        try:
            bring_up(
                settings,
                (*SERVICES, *(FOR_MORE if more else ())),
                lambda line: console.print(line, highlight=False),
            )
            outcomes.append(_one_batch(settings, "platform", raw, rows, 1, most_seconds))
            if more and not outcomes[0].failed:
                console.print(outcomes[0])
                _await_end_of_runs(settings)
                outcomes.append(_one_batch(settings, "more", more, rows, 2, most_seconds))
        finally:
            take_down(settings, lambda line: None)
    return outcomes


def _one_batch(
    settings: PlatformSettings, run: str, file: Path, rows: int, number: int, most_seconds: float
) -> Outcome:
    with watch_memory(lambda: processes_of(settings.home_folder)) as memory:
        began = time.time()
        upload = [str(Path(sys.executable).with_name("usedcars-simulation")), "upload", str(file)]
        environment = {**os.environ, **settings.service_environment()}
        subprocess.run([*upload, "--batch", f"batch-{number}"], env=environment, check=True)
        version = _await_version(settings, number, began + most_seconds)
    outcome = Outcome(run, rows, file.stat().st_size / 1e6, time.time() - began, memory.peak / 2**30)
    if version is None:
        return replace(outcome, failed=f"no version within {most_seconds / 60:.0f} minutes")
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    return replace(
        outcome,
        seconds=int(version["creation_timestamp"]) / 1000 - began,
        rmse=float(tags["test_rmse"]),
        mae=float(tags["test_mae"]),
        r2=float(tags["test_r2"]),
        test_rows=int(float(tags["test_rows"])),
    )


def _await_end_of_runs(settings: PlatformSettings) -> None:
    """Until Dagster has nothing to do: the version is in service, exported and described."""
    url = f"{settings.url('dagster')}/graphql"
    while True:
        asked = requests.post(url, json={"query": UNDER_WAY}, timeout=60)
        if asked.ok and not asked.json()["data"]["runsOrError"]["results"]:
            return
        time.sleep(1)


def _await_version(settings: PlatformSettings, number: int, deadline: float) -> dict[str, Any] | None:
    while time.time() < deadline:
        found = requests.get(
            f"{settings.url('mlflow')}/api/2.0/mlflow/model-versions/search",
            params={"filter": f"name='{settings.registered_model}'"},
            timeout=60,
        )
        version: dict[str, Any]
        for version in found.json().get("model_versions", []) if found.ok else []:
            if version["version"] == str(number):
                return version
        time.sleep(1)
    return None


def notebook(run: str) -> Callable[[Path, Path, int, float], Outcome]:
    """A peer in a process of its own, which may have as much memory as the platform's machine."""

    def take(raw: Path, test_ids: Path, rows: int, most_seconds: float) -> Outcome:
        script = PEERS / f"{run}_notebook.py"
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
            process = subprocess.Popen(
                [sys.executable, str(script), str(raw), str(test_ids), str(CORES)],
                stdout=said,
                stderr=complained,
                # A JVM reserves far more addresses than it uses; its heap has a limit of its own.
                preexec_fn=_limit_memory if run == "pandas" else None,
            )
            failed = ""
            with watch_memory(lambda: family(process.pid)) as memory:
                try:
                    process.wait(most_seconds)
                except subprocess.TimeoutExpired:
                    failed = f"stopped after {most_seconds / 60:.0f} minutes"
                    processes = family(process.pid)
                    for each in processes:
                        each.kill()
                    psutil.wait_procs(processes)
            seconds = time.monotonic() - began
            said.seek(0)
            complained.seek(0)
            lines, errors = said.read().splitlines(), complained.read().strip().splitlines()
        outcome = Outcome(run, rows, raw.stat().st_size / 1e6, seconds, memory.peak / 2**30)
        if failed or process.returncode:
            named = [line for line in errors if "Error" in line or "Exception" in line]
            reason = failed or next(reversed(named), f"ended with {process.returncode}")[:200]
            return replace(outcome, failed=reason)
        return replace(outcome, **json.loads(lines[-1]))

    return take


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))


def table_of(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Rows of text: rows, run, time, memory, errors."""

    def dollars(value: float | None) -> str:
        return "" if value is None else f"{value:,.0f}"

    return [
        (
            f"{each.rows:,}",
            NAMES[each.run],
            each.failed or f"{each.seconds:,.0f}",
            f"{each.peak_gib:.1f}",
            dollars(each.rmse),
            dollars(each.mae),
            "" if each.r2 is None else f"{each.r2:.4f}",
        )
        for each in sorted(outcomes, key=lambda each: (each.rows, list(NAMES).index(each.run)))
    ]


HEADER = ("raw rows", "by", "seconds", "peak GiB", "RMSE", "MAE", "R²")


def keep(folder: Path, found: Sequence[Outcome]) -> None:
    """Adds to training.json what was found, in place of what it replaces; draws table and plot of all."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "training.json"
    known = [Outcome(**each) for each in json.loads(file.read_text())] if file.exists() else []
    by_place = {(each.rows, each.run): each for each in (*known, *found)}
    outcomes = [by_place[place] for place in sorted(by_place)]
    file.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n", encoding="utf-8")

    lines = [HEADER, tuple("---" for _ in HEADER), *table_of(outcomes)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    (folder / "training.md").write_text(
        "# Training beside notebooks\n\n"
        "Made by `python benchmarks/training.py --keep docs/benchmarks`, whose head says what is compared. "
        f"{CORES} cores; the memory of usedcars is that of HDFS, Kafka, MLflow and Dagster as well."
        f"\n\n{table}\n\n![seconds and errors by rows](training.svg)\n",
        encoding="utf-8",
    )
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    times, errors = figure.subplots(1, 2)
    for run, name in NAMES.items():
        of_run = [each for each in outcomes if each.run == run and not each.failed]
        for axes, values in ((times, [each.seconds for each in of_run]), (errors, [e.rmse for e in of_run])):
            axes.plot([each.rows for each in of_run], values, marker="o", label=name)
    for axes, title in ((times, "seconds, raw file to model"), (errors, "RMSE on the test rows, USD")):
        axes.set(xscale="log", xlabel="raw rows", title=title)
    times.set_yscale("log")
    times.legend()
    figure.savefig(folder / "training.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[30_000])
    runs = ("platform", "spark", "pandas")
    parser.add_argument("--only", nargs="+", choices=runs, default=runs)
    parser.add_argument("--more", type=float, default=0, help="part of the rows that comes after the others")
    parser.add_argument("--most-minutes", type=float, default=120, help="a run that takes longer is stopped")
    parser.add_argument("--keep", type=Path, help="folder of training.json, training.md and training.svg")
    parser.add_argument("--run", choices=["test-ids"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        write_test_ids(arguments.folder / "raw.csv", arguments.folder / "test_ids.txt")
        print("{}")
        return
    outcomes: list[Outcome] = []
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory(prefix="usedcars-training-") as temporary:
            folder = Path(temporary)
            raw, test_ids = folder / "raw.csv", folder / "test_ids.txt"
            generate(raw, rows)
            more = folder / "more.csv" if arguments.more else None
            if more:
                generate(more, int(rows * arguments.more), seed=2)
            measured(__file__, "test-ids", folder=folder)
            most_seconds = arguments.most_minutes * 60
            for run in arguments.only:
                found = (
                    platform(raw, rows, most_seconds, more)
                    if run == "platform"
                    else [notebook(run)(raw, test_ids, rows, most_seconds)]
                )
                outcomes += found
                if arguments.keep:
                    keep(arguments.keep, found)
    table = Table(*HEADER)
    for line in table_of(outcomes):
        table.add_row(*line)
    Console().print(table)


if __name__ == "__main__":
    main()
