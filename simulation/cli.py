"""`usedcars-simulation`: the outside world from the command line."""

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import structlog
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from simulation.errors import SimulationError
from simulation.lake import batch_is_complete, open_lake, upload_batch
from simulation.settings import SimulationSettings
from simulation.splitting import split_listings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_show_locals=False
)
_Parameters = ParamSpec("_Parameters")

InputFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="Raw CSV file.")]


@app.callback()
def _configure() -> None:
    # Looked up anew for every line: who replaces sys.stderr and closes it does not break later logging.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def _told_in_one_sentence(command: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    @functools.wraps(command)
    def run(*arguments: _Parameters.args, **options: _Parameters.kwargs) -> None:
        try:
            command(*arguments, **options)
        except (SimulationError, OSError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error
        except ValidationError as error:
            wrong = "; ".join(f"USEDCARS_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
            typer.echo(
                f"Error: a setting of the environment is wrong, set it right or leave it out: {wrong}",
                err=True,
            )
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


@app.command()
@_told_in_one_sentence
def split(
    file: InputFile,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the parts.")],
    batches: Annotated[int, typer.Option(min=1, max=500, help="Batches to train on.")] = 10,
    test_fraction: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the cars in test.csv.")
    ] = 0.1,
) -> None:
    """Split a raw file, generated or real, into batches and a test part; a car is in one part only."""
    for name, rows in split_listings(file, output, batches, test_fraction).rows.items():
        typer.echo(f"{rows:>12,} listings in {output / name}")


@app.command()
@_told_in_one_sentence
def drop(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder of batch-*.csv files.")
    ],
    interval: Annotated[float, typer.Option(min=0.0, help="Seconds from one batch to the next.")] = 60.0,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace batches that are there already.")
    ] = False,
) -> None:
    """Upload the batches of a folder one by one; those that are in HDFS already are passed over."""
    files = sorted(folder.glob("batch-*.csv"))
    if not files:
        raise SimulationError(
            f"There is no batch-*.csv in {folder}: cut a file with the command split first."
        )
    lake = open_lake(SimulationSettings())
    waiting = 0.0
    for file in files:
        if not replace and batch_is_complete(lake, file.stem):
            typer.echo(f"{file.stem} is in HDFS already")
            continue
        time.sleep(waiting)
        typer.echo(f"{file} is in HDFS as {upload_batch(lake, file, file.stem, replace=replace)}")
        waiting = interval


@app.command()
@_told_in_one_sentence
def ask(
    file: InputFile,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Listings to ask for.")] = 100,
    rate: Annotated[float, typer.Option(min=0.001, max=10_000, help="Requests a second.")] = 10.0,
    price_delay: Annotated[
        float, typer.Option(min=0.0, help="Seconds from a request to its true price.")
    ] = 5.0,
    prices: Annotated[bool, typer.Option("--prices/--no-prices", help="Send the true prices at all.")] = True,
    timeout: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for the last answers.")] = 30.0,
    json_output: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="File for answers and summary as JSON.")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="Cars in the printed table.")] = 20,
) -> None:
    """Ask for the prices of a file's listings, tell the true ones later, and compare.

    Exits with 1 when something stays unanswered.
    """
    from simulation.asking import ask as ask_prices
    from simulation.asking import read_questions
    from simulation.report import price_table, summary_lines, write_json

    conversation = ask_prices(
        read_questions(file, limit),
        SimulationSettings(),
        rate=rate,
        price_delay=price_delay if prices else None,
        timeout=timeout,
    )
    if json_output is not None:
        write_json(conversation, json_output)
    console = Console()
    if show:
        console.print(price_table(conversation, show))
    for line in summary_lines(conversation):
        console.print(line)
    if conversation.undelivered or any(question.answer is None for question in conversation.questions):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
