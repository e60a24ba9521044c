"""The demo: a batch of raw listings becomes a live model, whose answers are shown next to the true prices."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.live import Live
from rich.table import Table

from local_platform.dagster import graphql
from local_platform.errors import PlatformError
from local_platform.platform import Report, bring_up
from local_platform.service import ask
from local_platform.settings import PlatformSettings

POLL_EVERY_SECONDS = 1.0
PLAIN_LINE_EVERY_SECONDS = 15.0
RUN_APPEARS_WITHIN_SECONDS = 120.0
RUN_ENDS_WITHIN_SECONDS = 3600.0
TEST_FRACTION = 0.02
TRAINING_JOB, ROLLOUT_STEP = "training", "serving_rollout"
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
BATCH_PREFIX = "demo-"
SHOWN_METRICS = {
    "test_rmse": "RMSE",
    "test_mae": "MAE",
    "test_mape": "MAPE",
    "test_r2": "R²",
    "test_median_absolute_error": "median error",
}

_RUNS = """query { runsOrError(limit: 20) { ... on Runs { results {
  runId jobName status creationTime startTime endTime stepStats { stepKey status startTime endTime }
} } } }"""
_SENTENCES = """query Log($run: ID!, $after: String) {
  logsForRun(runId: $run, afterCursor: $after, limit: 1000) { ... on EventConnection { cursor hasMore events {
    ... on ExecutionStepFailureEvent {
      stepKey error { message causes { message } } failureMetadata { description }
    }
    ... on RunFailureEvent { message }
  } } }
}"""


@dataclass(frozen=True)
class Step:
    """A step of a run: seconds since the epoch, None where it has not come to that."""

    name: str
    status: str
    started: float | None
    ended: float | None


@dataclass(frozen=True)
class Run:
    """A Dagster run, with the steps that have begun."""

    id: str
    job: str
    status: str
    created: float
    steps: tuple[Step, ...]


def run_demo(settings: PlatformSettings, rows: int, questions: int, console: Console, report: Report) -> None:
    """Everything from nothing to answered prices; the platform is left up.

    Raises PlatformError with the failed step's own sentence when something does not work.
    """
    begun = time.monotonic()
    bring_up(settings, (), report)
    batch, listings = _make_batch(settings, rows, report)
    known = {run.id for run in _runs(settings)}
    report(f"batch {batch}: uploading {rows:,} raw listings to HDFS")
    _simulation(settings, "upload", str(listings / "batch-0001.csv"), "--batch", batch)
    run = _follow_training(settings, known, console, report)
    _show_answers(settings, listings / "test.csv", questions, report)
    _show_metrics(settings, console)
    report(f"from the first command to here: {_clock(time.monotonic() - begun)}; the training: {run.id}")
    report(f"Dagster {settings.url('dagster')}/runs/{run.id}")
    report(f"MLflow  {settings.url('mlflow')}/#/models/{settings.registered_model}")
    report(f"HDFS    {settings.url('namenode_http')}/webhdfs/v1/usedcars?op=LISTSTATUS")
    report(f"Prices  {settings.url('live_metrics')}/ (their live error, once prices are set)")
    report("The platform stays up: make status, make logs, make down; make demo sends the next batch.")


def _make_batch(settings: PlatformSettings, rows: int, report: Report) -> tuple[str, Path]:
    """The next batch's name, and a folder with its batch-0001.csv and test.csv."""
    number = 1 + max(_demo_batches(settings), default=0)
    folder = settings.home_folder / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    report(f"making {rows:,} raw listings")
    raw = folder / "listings.csv"
    _simulation(settings, "generate", "--rows", str(rows), "--seed", str(number), "--output", str(raw))
    _simulation(
        settings,
        *(
            "split",
            str(raw),
            "--output",
            str(folder),
            "--batches",
            "1",
            "--test-fraction",
            str(TEST_FRACTION),
        ),
    )
    raw.unlink()
    return f"{BATCH_PREFIX}{number:04}", folder


def _demo_batches(settings: PlatformSettings) -> list[int]:
    """The numbers of the batches that earlier demos uploaded."""
    answer = ask(
        "GET",
        f"{settings.url('namenode_http')}/webhdfs/v1/usedcars/incoming",
        params={"op": "LISTSTATUS", "user.name": settings.hdfs_user},
        timeout=30,
    )
    answer.raise_for_status()
    names = [str(entry["pathSuffix"]) for entry in answer.json()["FileStatuses"]["FileStatus"]]
    return [
        int(name.removeprefix(BATCH_PREFIX))
        for name in names
        if name.startswith(BATCH_PREFIX) and name.removeprefix(BATCH_PREFIX).isdigit()
    ]


def _simulation(settings: PlatformSettings, *arguments: str, show: bool = False) -> None:
    """Call the outside world as a process of its own; raises with its last line when it fails."""
    finished = subprocess.run(
        [str(Path(sys.executable).with_name("usedcars-simulation")), *arguments],
        env=_environment(settings),
        stdout=None if show else subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if finished.returncode:
        said = (finished.stdout or "").strip().splitlines()[-1:] or ["see above"]
        raise PlatformError(f"'usedcars-simulation {arguments[0]}' failed: {said[0]}")


def _environment(settings: PlatformSettings) -> dict[str, str]:
    return {**os.environ, **settings.service_environment()}


def _runs(settings: PlatformSettings) -> list[Run]:
    """The newest runs, newest first."""
    results: list[dict[str, Any]] = graphql(settings, _RUNS)["runsOrError"]["results"]  # type: ignore[index]
    return [
        Run(
            id=run["runId"],
            job=run["jobName"],
            status=run["status"],
            created=run["creationTime"],
            steps=tuple(
                Step(step["stepKey"], step["status"] or "", step["startTime"], step["endTime"])
                for step in run["stepStats"]
            ),
        )
        for run in results
    ]


def _follow_training(settings: PlatformSettings, known: set[str], console: Console, report: Report) -> Run:
    """Show the run that the batch triggers until its model answers; its last pages are not awaited."""
    begun = last_line = sensor_is_free_since = time.monotonic()
    last_shown = ""
    run: Run | None = None
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while run is None or not (run.status in ENDED or _is_rolled_out(run)):
            waited = time.monotonic() - begun
            if run is None and time.monotonic() - sensor_is_free_since > RUN_APPEARS_WITHIN_SECONDS:
                raise PlatformError(
                    f"the sensor started no training within {RUN_APPEARS_WITHIN_SECONDS:.0f} s: look at "
                    f"{settings.url('dagster')}/automation and 'make logs SERVICE=dagster-daemon'"
                )
            if waited > RUN_ENDS_WITHIN_SECONDS:
                raise PlatformError(
                    f"the training goes on after {_clock(waited)}: see {settings.url('dagster')}/runs"
                )
            time.sleep(POLL_EVERY_SECONDS)
            try:
                runs = _runs(settings)
            except requests.RequestException:
                continue  # the webserver may reload its code; it is asked again
            if any(earlier.id in known and earlier.status not in ENDED for earlier in runs):
                sensor_is_free_since = time.monotonic()  # the batch waits for the training before it
            new = [found for found in runs if found.id not in known and found.job == TRAINING_JOB]
            run = new[-1] if new else None
            shown = _state_of(run)
            if console.is_terminal:
                live.update(_progress(run, waited), refresh=True)
            elif shown != last_shown or time.monotonic() - last_line > PLAIN_LINE_EVERY_SECONDS:
                report(f"{_clock(waited)}  {shown}")
                last_shown, last_line = shown, time.monotonic()
    console.print(_progress(run, time.monotonic() - begun))
    if not _is_rolled_out(run):
        raise PlatformError(
            f"the training ended with {run.status}: {' '.join(_failure_sentences(settings, run.id))} "
            f"(see {settings.url('dagster')}/runs/{run.id})"
        )
    return run


def _is_rolled_out(run: Run) -> bool:
    return any(step.name == ROLLOUT_STEP and step.status == "SUCCESS" for step in run.steps)


def _state_of(run: Run | None) -> str:
    if run is None:
        return "waiting for the sensor to see the batch"
    working = [step.name for step in run.steps if step.status == "IN_PROGRESS"]
    return ", ".join(working) or run.status.lower()


def _progress(run: Run | None, seconds: float) -> Table:
    """The steps so far, with the time each took."""
    table = Table(title=f"training: {_state_of(run)}, {_clock(seconds)}", title_justify="left")
    table.add_column("step", no_wrap=True)
    table.add_column("state")
    table.add_column("seconds", justify="right")
    for step in sorted(run.steps if run else (), key=lambda step: step.started or 0):
        took = (step.ended or time.time()) - step.started if step.started else 0.0
        table.add_row(step.name, step.status.lower().replace("_", " "), f"{took:.1f}")
    return table


def _failure_sentences(settings: PlatformSettings, run_id: str) -> list[str]:
    """What the failed steps themselves say."""
    sentences: list[str] = []
    cursor: str | None = None
    while True:
        page: Any = graphql(settings, _SENTENCES, {"run": run_id, "after": cursor})["logsForRun"]
        for event in page["events"]:
            if (metadata := event.get("failureMetadata")) and metadata.get("description"):
                sentences.append(f"{event['stepKey']}: {metadata['description']}")
            elif event.get("error"):
                causes = [cause["message"] for cause in event["error"]["causes"]]
                sentences.append(f"{event['stepKey']}: {(causes or [event['error']['message']])[-1].strip()}")
        if not page["hasMore"]:
            return sentences
        cursor = page["cursor"]


def _show_answers(settings: PlatformSettings, test: Path, questions: int, report: Report) -> None:
    """Ask for the prices of test listings; the outside world prints answered next to true prices."""
    report(f"asking for the prices of {questions} listings that no training has seen")
    _simulation(
        settings,
        *("ask", str(test), "--limit", str(questions), "--rate", "10", "--price-delay", "1"),
        *("--json", str(test.with_name("answers.json"))),
        show=True,
    )
    answers = json.loads(test.with_name("answers.json").read_text())
    if not answers:
        raise PlatformError("nothing was asked: see the lines above")


def _show_metrics(settings: PlatformSettings, console: Console) -> None:
    """The metrics of every model of the version in service, from MLflow."""
    registry = f"{settings.url('mlflow')}/api/2.0/mlflow"
    alias = _json(
        f"{registry}/registered-models/alias", name=settings.registered_model, alias=settings.serving_alias
    )
    version = alias["model_version"]
    parent = _json(f"{registry}/runs/get", run_id=version["run_id"])["run"]
    found = ask(
        "POST",
        f"{registry}/runs/search",
        json={
            "experiment_ids": [parent["info"]["experiment_id"]],
            "filter": f"tags.`mlflow.parentRunId` = '{version['run_id']}'",
            "max_results": 200,
        },
        timeout=30,
    )
    found.raise_for_status()
    table = Table(
        title=f"{settings.registered_model} version {version['version']}, on listings it has not seen"
    )
    table.add_column("model", no_wrap=True)
    for title in SHOWN_METRICS.values():
        table.add_column(title, justify="right")
    for run in sorted(found.json().get("runs", ()), key=lambda run: float(run["info"]["start_time"])):
        metrics = {metric["key"]: float(metric["value"]) for metric in run["data"].get("metrics", ())}
        if SHOWN_METRICS.keys() <= metrics.keys():
            table.add_row(run["info"]["run_name"], *_formatted([metrics[name] for name in SHOWN_METRICS]))
    console.print(table)


def _formatted(values: Sequence[float]) -> list[str]:
    rmse, mae, mape, r2, median = values
    return [f"{rmse:,.0f} USD", f"{mae:,.0f} USD", f"{mape:.1%}", f"{r2:.3f}", f"{median:,.0f} USD"]


def _json(url: str, **parameters: str) -> Any:
    answer = ask("GET", url, params=parameters, timeout=30)
    answer.raise_for_status()
    return answer.json()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
