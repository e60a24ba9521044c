"""What each stage of the model takes to price a listing, in microseconds of one core.

    python benchmarks/scoring.py [--model FOLDER] [--rows 20000] [--repeat 6]

The model is the Spark pipeline in FOLDER, by default what serving of the embedded platform loaded last (`make
demo`; `make down` keeps the machine quiet). Generated listings, as JSON without what no model reads, pass
through the first stage, the first two, and so on, in a warm JVM on one core; the shortest of the repetitions
counts. Spark plans the stages together, so that one may seem to cost less than nothing.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from asked_listings import asked_listings
from pyspark.ml.wrapper import JavaModel
from pyspark.sql import DataFrame
from rich.console import Console
from rich.table import Table
from separate_runs import generate, spark_session

from local_platform.settings import PlatformSettings
from usedcars_assets.pipeline.jvm_stage import JvmStage
from usedcars_assets.pipeline.tables import load_pipeline


def newest_model() -> Path:
    """What serving loaded last."""
    found = PlatformSettings().home_folder.glob("serving/models/*/*/sparkml")
    newest = max(found, key=lambda folder: folder.stat().st_mtime, default=None)
    if newest is None:
        raise SystemExit("there is no served model: make demo first, or name one with --model")
    return newest


def single_stages(stages: Sequence[JavaModel]) -> list[JavaModel]:
    """The stages, those of pipelines among them one by one."""
    singles: list[JavaModel] = []
    for stage in stages:
        if stage._java_obj.getClass().getSimpleName() == "PipelineModel":
            singles += single_stages([JvmStage(part) for part in stage._java_obj.stages()])
        else:
            singles.append(stage)
    return singles


def microseconds(rows: DataFrame, count: int, repeat: int) -> float:
    """Of one row, without writing anything."""
    seconds = []
    for _ in range(repeat):
        start = time.monotonic()
        rows.write.format("noop").mode("overwrite").save()
        seconds.append(time.monotonic() - start)
    return min(seconds) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=6)
    arguments = parser.parse_args()
    spark = spark_session("2g", cores=1)
    spark.conf.set("spark.sql.ansi.enabled", "false")  # as in serving
    model = load_pipeline((arguments.model or newest_model()).resolve().as_uri())
    with TemporaryDirectory(prefix="usedcars-scoring-") as folder:
        raw = Path(folder, "raw.csv")
        generate(raw, arguments.rows)
        texts = [(listing,) for listing in asked_listings(raw, arguments.rows)]
    listings = spark.createDataFrame(texts, "listing string").coalesce(1).localCheckpoint()

    table = Table("stage", "all up to it, µs", "more, µs")
    before = microseconds(listings, len(texts), arguments.repeat)
    table.add_row("reading the rows", f"{before:.1f}", "")
    passed = listings
    for stage in single_stages(model.stages):
        passed = stage.transform(passed)
        now = microseconds(passed, len(texts), arguments.repeat)
        table.add_row(stage._java_obj.getClass().getSimpleName(), f"{now:.1f}", f"{now - before:.1f}")
        before = now
    price = model.transform(listings).select("price", "price_low", "price_high", "rejection")
    table.add_row("the price alone", f"{microseconds(price, len(texts), arguments.repeat):.1f}", "")
    spark.stop()
    Console().print(table)


if __name__ == "__main__":
    main()
