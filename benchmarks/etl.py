"""Cleaning a raw batch with Spark, beside polars reading and casting the same file on the same two cores.

    python benchmarks/etl.py [--rows 300000] [--file FILE.csv] [--repeat 3]

Spark does what the platform does to a batch: read the CSV, check and clean each row, drop duplicates, write
the three Parquet tables. Polars only reads the file and casts the same columns: no rules, no rejected rows,
nothing written. Between them stands the least that Spark could do: read the file and write the raw columns
that are cleaned, as they are. Each runs in a process of its own; the first run in it is cold.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from separate_runs import CORES, generate, measured, spark_session

TARGET = 3.0  # times polars


def clean_with_spark(file: Path, repeat: int) -> dict[str, object]:
    from usedcars_assets.pipeline.cleaning import clean_listings
    from usedcars_assets.pipeline.raw_listings import read_raw_listings
    from usedcars_assets.pipeline.tables import write_table

    spark = spark_session("2g")
    spark.range(1).count()
    seconds = []
    with tempfile.TemporaryDirectory(prefix="usedcars-etl-") as lake:
        for run in range(repeat):
            start = time.monotonic()
            with clean_listings(read_raw_listings(spark, file.as_uri())) as batch:
                for name in ("cleaned", "rejected", "duplicates"):
                    write_table(getattr(batch, name), f"file://{lake}/{run}/{name}")
                counts = batch.counts
            seconds.append(time.monotonic() - start)
        written = sum(path.stat().st_size for path in Path(lake, "0").rglob("*.parquet"))
    spark.stop()
    return {"seconds": seconds, "rows": counts.read, "cleaned": counts.cleaned, "bytes": written}


def copy_with_spark(file: Path, repeat: int) -> dict[str, object]:
    from usedcars_assets.pipeline.cleaning import FLAGS, NUMBERS, TEXTS
    from usedcars_assets.pipeline.raw_listings import read_raw_listings

    spark = spark_session("2g")
    spark.range(1).count()
    fields = (*(number.field for number in NUMBERS), *TEXTS.values(), *FLAGS.values())
    columns = list(dict.fromkeys(("listing_id", "vin", "price", "listed_date", *fields)))
    seconds = []
    with tempfile.TemporaryDirectory(prefix="usedcars-etl-") as lake:
        for run in range(repeat):
            start = time.monotonic()
            read_raw_listings(spark, file.as_uri()).select(columns).write.parquet(f"file://{lake}/{run}")
            seconds.append(time.monotonic() - start)
        rows = spark.read.parquet(f"file://{lake}/0").count()
    spark.stop()
    return {"seconds": seconds, "rows": rows}


def cast_with_polars(file: Path, repeat: int) -> dict[str, object]:
    os.environ["POLARS_MAX_THREADS"] = str(CORES)
    import polars as pl

    from usedcars_assets.pipeline.cleaning import FLAGS, NUMBERS, PLACEHOLDERS

    def number(field: str, unit: str, part: str) -> pl.Expr:
        text = pl.col(field)
        if part:
            text = text.str.split_exact("@", 1).struct.field("field_0" if part == "before @" else "field_1")
        text = text.str.to_lowercase().str.strip_chars_end(f" {unit}").str.strip_chars_start()
        return text.str.replace_all(",", "", literal=True).cast(pl.Float64, strict=False)

    columns = [
        *(number(n.field, n.unit, n.part).alias(n.column) for n in NUMBERS),
        number("price", "usd", "").alias("price_usd"),
        *((pl.col(field).str.to_lowercase() == "true").alias(column) for column, field in FLAGS.items()),
        pl.col("listed_date").str.to_date(strict=False),
        pl.col("make_name", "model_name", "trim_name", "city"),
    ]
    seconds = []
    for _ in range(repeat):
        start = time.monotonic()
        table = pl.read_csv(file, infer_schema=False, null_values=[*PLACEHOLDERS, "None"])
        typed = table.with_columns(columns)
        seconds.append(time.monotonic() - start)
    return {"seconds": seconds, "rows": typed.height}


RUNS = {"spark": clean_with_spark, "copy": copy_with_spark, "polars": cast_with_polars}
NAMES = {
    "spark": "Spark: read, clean, write",
    "copy": "Spark: read, write",
    "polars": "polars: read, cast",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--file", type=Path, help="a raw file, instead of a generated one")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--run", choices=sorted(RUNS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(RUNS[arguments.run](arguments.file.resolve(), arguments.repeat)))
        return
    with tempfile.TemporaryDirectory(prefix="usedcars-etl-") as folder:
        file = arguments.file or Path(folder, "raw.csv")
        if not arguments.file:
            generate(file, arguments.rows)
        megabytes = file.stat().st_size / 1e6
        results = {name: measured(__file__, name, file=file, repeat=arguments.repeat) for name in RUNS}
    report(results, megabytes)


def report(results: dict[str, dict[str, object]], megabytes: float) -> None:
    table = Table("", "first run, s", "best, s", "median, s", "rows/s (best)", "MB/s (best)")
    best = {}
    for name, found in results.items():
        seconds = list(map(float, found["seconds"]))  # type: ignore[call-overload]
        best[name] = min(seconds)
        table.add_row(
            NAMES[name],
            f"{seconds[0]:.1f}",
            f"{best[name]:.1f}",
            f"{statistics.median(seconds):.1f}",
            f"{int(found['rows']) / best[name]:,.0f}",  # type: ignore[call-overload]
            f"{megabytes / best[name]:.0f}",
        )
    console = Console()
    console.print(f"{results['spark']['rows']:,} rows, {megabytes:.0f} MB, {CORES} cores")
    console.print(table)
    times = {name: f"{best[name] / best['polars']:.1f} times" for name in ("spark", "copy")}
    console.print(f"{times['spark']} polars (wanted: at most {TARGET:.0f}); without cleaning {times['copy']}")
    console.print(f"load of this machine while it was measured: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
