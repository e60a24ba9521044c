"""The command line of the embedded platform: what make up, down, status, logs, demo and clean call."""

import subprocess
from collections.abc import Callable
from functools import wraps
from typing import Annotated, ParamSpec

import requests
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local_platform import platform
from local_platform.demo import run_demo
from local_platform.errors import PlatformError
from local_platform.settings import PlatformSettings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
console = Console(soft_wrap=True)
Parameters = ParamSpec("Parameters")


def _one_sentence_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Show what is wrong as one sentence, and end with 1."""

    @wraps(command)
    def shown(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        try:
            command(*arguments, **options)
        except PlatformError as error:
            console.print(f"[red]error:[/red] {escape(str(error))}")
            raise typer.Exit(1) from error
        except requests.RequestException as error:
            asked = error.request.url if error.request is not None else "a service"
            console.print(
                f"[red]error:[/red] {escape(str(asked))} did not answer as it should "
                f"({type(error).__name__}): see 'make status' and 'make logs', then run the command again"
            )
            raise typer.Exit(1) from error
        except ValidationError as error:
            for problem in error.errors():
                name = "_".join(["USEDCARS", *(str(part).upper() for part in problem["loc"])])
                console.print(
                    f"[red]error:[/red] {escape(name)}: {escape(problem['msg'])}: set it to a fitting value"
                )
            raise typer.Exit(1) from error

    return shown


def _report(line: str) -> None:
    console.print(escape(line), highlight=False)


@app.command()
@_one_sentence_errors
def up(
    services: Annotated[list[str] | None, typer.Argument(help="only these and what they need")] = None,
) -> None:
    """Start the services and wait until they are ready; what runs already is left alone."""
    settings = PlatformSettings()
    platform.bring_up(settings, services or (), _report)
    if not services:
        console.print(
            f"Dagster {settings.url('dagster')}   MLflow {settings.url('mlflow')}   "
            f"HDFS {settings.url('namenode_http')}/webhdfs/v1   Kafka {settings.address('kafka')}   "
            f"live error of the prices {settings.url('live_metrics')}"
        )


@app.command()
@_one_sentence_errors
def down() -> None:
    """Stop everything; the data stay."""
    platform.take_down(PlatformSettings(), _report)
    console.print("the platform is down")


@app.command()
@_one_sentence_errors
def status() -> None:
    """How every service is; ends with 1 when one is not ready."""
    rows = platform.statuses(PlatformSettings())
    if not rows:
        raise PlatformError("the platform is down: 'make up' starts it")
    table = Table()
    for column in ("service", "state", "pid", "memory", "ports", "up for", "ready"):
        # In a narrow terminal the sentences wrap; a pid is never cut.
        table.add_column(
            column,
            justify="right" if column in {"pid", "memory", "up for"} else "left",
            no_wrap=column not in {"ports", "ready"},
            overflow="fold",
        )
    for row in rows:
        table.add_row(
            row.name,
            row.state,
            str(row.pid or ""),
            f"{row.memory / 2**20:.0f} MiB" if row.memory else "",
            ", ".join(map(str, row.ports)),
            f"{row.uptime:.0f} s" if row.pid else "",
            "yes" if row.missing is None else escape(row.missing),
        )
    table.add_row("all", "", "", f"{sum(row.memory for row in rows) / 2**20:.0f} MiB", "", "", "")
    console.print(table)
    if any(row.missing is not None for row in rows):
        raise typer.Exit(1)


@app.command()
@_one_sentence_errors
def logs(
    service: Annotated[str | None, typer.Argument(help="one service; all when none is named")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as lines come")] = False,
    lines: Annotated[int, typer.Option(min=1, help="how many of the last lines")] = 50,
) -> None:
    """The last lines of the services' logs."""
    folder = PlatformSettings().logs_folder
    files = sorted(folder.glob(f"{service or '*'}.log"))
    if not files:
        raise PlatformError(f"there is no log {service or ''} in {folder}: 'make up' starts the services")
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, files)]
    subprocess.run(command, check=False)


@app.command()
@_one_sentence_errors
def demo(
    rows: Annotated[int, typer.Option(min=1000, help="raw listings in the batch")] = 50_000,
    questions: Annotated[int, typer.Option(min=1, help="how many prices are asked for")] = 20,
) -> None:
    """Start everything, upload a batch, watch it become a live model, ask it for prices."""
    run_demo(PlatformSettings(), rows, questions, console, _report)


@app.command()
@_one_sentence_errors
def clean(yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False) -> None:
    """Delete all data, logs and configuration of the platform; the downloaded jars stay."""
    settings = PlatformSettings()
    if not yes:
        typer.confirm(f"Delete all data of the platform in {settings.home_folder}?", abort=True)
    platform.remove_data(settings)
    console.print(f"{settings.home_folder} is clean")
