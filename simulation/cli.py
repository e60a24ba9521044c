"""`usedcars-simulation`: the outside world from the command line."""

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import structlog
import typer
from rich.console import Console
from rich.progress import Progress

from simulation.errors import SimulationError
from simulation.lake import open_lake, upload_batch
from simulation.settings import SimulationSettings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_show_locals=False
)
_Parameters = ParamSpec("_Parameters")

InputFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]


@app.callback()
def _configure() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def _told_in_one_sentence(command: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    @functools.wraps(command)
    def run(*arguments: _Parameters.args, **options: _Parameters.kwargs) -> None:
        try:
            command(*arguments, **options)
        except SimulationError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            typer.echo("Stopped.", err=True)
            raise typer.Exit(130) from stop

    return run


@app.command()
@_told_in_one_sentence
def generate(
    rows: Annotated[int, typer.Option(min=1, max=100_000_000, help="Listings to generate.")],
    output: Annotated[Path, typer.Option(dir_okay=False, help="CSV file to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Same seed and rows, same bytes.")] = 1,
) -> None:
    """Generate raw listings in the format of the published file."""
    from simulation.generation import generate_listings

    started = time.monotonic()
    output.parent.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("listings", total=rows)
        for written in generate_listings(output, rows, seed):
            progress.update(task, completed=written)
    seconds = time.monotonic() - started
    typer.echo(f"{rows:,} listings in {output} ({seconds:.1f} s, {rows / seconds:,.0f} a second)")


@app.command()
@_told_in_one_sentence
def upload(
    file: InputFile,
    batch: Annotated[str, typer.Option(help="Name of the batch.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace a batch of that name.")] = False,
) -> None:
    """Upload a CSV file to HDFS as one batch; it becomes visible when it is complete."""
    folder = upload_batch(open_lake(SimulationSettings()), file, batch, replace=replace)
    typer.echo(f"{file} is in HDFS as {folder}")


if __name__ == "__main__":
    app()
