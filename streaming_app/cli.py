"""`usedcars`: the platform's client on the command line."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from confluent_kafka import KafkaException
from kafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streaming_app.client import NoAnswerError, PriceClient, live_metrics
from streaming_app.ledger import read_ledger
from streaming_app.settings import KafkaSettings, from_environment
from streaming_app.waiting import NotYetError

app = typer.Typer(help="Ask for prices, set them, watch live metrics, list the ledger.", no_args_is_help=True)


@app.command()
def price(
    listing: Annotated[
        str, typer.Argument(help="a file with a raw listing as a JSON object, - for standard input")
    ],
    timeout: Annotated[float, typer.Option(help="seconds to wait for the answer")] = 30.0,
) -> None:
    """Ask for the price of one listing and print the answer."""
    try:
        text = sys.stdin.read() if listing == "-" else Path(listing).read_text(encoding="utf-8")
        raw = json.loads(text)
    except (OSError, ValueError) as error:
        _fail(f"{listing} can't be read as JSON: {error}")
    if not isinstance(raw, dict):
        _fail(f"{listing} is no JSON object: give a listing with its raw column names as keys")
    try:
        with PriceClient(from_environment(KafkaSettings)) as client:
            answer = client.price(raw, timeout)
    except (NoAnswerError, KafkaError) as error:
        _fail(_reason(error))
    typer.echo(json.dumps(answer))
    raise typer.Exit(0 if answer["type"] == "price" else 1)


@app.command("set-price")
def set_price(
    request_id: Annotated[str, typer.Argument(help="the request_id of the answer")],
    price_usd: Annotated[float, typer.Argument(metavar="PRICE", help="the eventual price in USD", min=0.01)],
) -> None:
    """Set the eventual price of a car that was asked for."""
    try:
        with PriceClient(from_environment(KafkaSettings)) as client:
            client.set_price(request_id, price_usd)
    except (NoAnswerError, KafkaError) as error:
        _fail(_reason(error))


@app.command()
def watch() -> None:
    """Print the live metrics as they come, until interrupted."""
    try:
        for figures in live_metrics(from_environment(KafkaSettings)):
            typer.echo(_line(figures))
    except KafkaError as error:
        _fail(_reason(error))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command()
def ledger(
    last: Annotated[int, typer.Option(help="how many of the newest entries", min=1)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="a line of JSON an entry")] = False,
) -> None:
    """List what became of each version: registrations, rollouts, takeovers and rollbacks."""
    try:
        entries = read_ledger(from_environment(KafkaSettings), last)
    except (NotYetError, KafkaException) as error:
        _fail(_reason(error))
    if as_json:
        for entry in entries:
            typer.echo(json.dumps(entry))
        return
    table = Table("time", "what", "outcome", "version", "former", "s", "reason", "by", box=None)
    for entry in entries:
        seconds, cells = entry.get("seconds"), ("at", "kind", "outcome", "version", "former")
        table.add_row(
            *(escape(str(entry.get(name) or "")) for name in cells),
            "" if seconds is None else f"{seconds:.1f}",
            escape(str(entry.get("reason") or "")),
            escape(str(entry.get("run_id") or "")[:20]),
        )
    Console().print(table)


def _line(figures: dict[str, Any]) -> str:
    def number(name: str, form: str) -> str:
        value = figures.get(name)
        return "-" if value is None else format(value, form)

    return (
        f"{figures['window_start']} to {figures['window_end']}  version {figures['model_version']:>4}  "
        f"{figures['count']:>6} prices  MAE {number('mae', ',.0f'):>7}  RMSE {number('rmse', ',.0f'):>7}  "
        f"MAPE {number('mape', '.1%'):>6}  bias {number('bias', '+,.0f'):>7}  R2 {number('r2', '.3f'):>6}  "
        f"in interval {number('interval_coverage', '.1%'):>6}"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, NoAnswerError | NotYetError):
        return str(error)
    brokers = from_environment(KafkaSettings).kafka_bootstrap_servers
    return (
        f"Kafka at {brokers} does not answer ({type(error).__name__}): "
        "start the platform, or name its address in USEDCARS_KAFKA_BOOTSTRAP_SERVERS"
    )


def _fail(reason: str) -> NoReturn:
    typer.echo(reason, err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
