"""Errors of the platform's models beside those of a notebook's, on the same rows.

    python benchmarks/training_error.py [--rows 60000] [--file FILE.csv] [--seed 20]

Both learn from the same cleaned rows and are asked for the prices of the same test rows. The platform gets
them raw and does what a training does, with its defaults. XGBoost, with 400 trees of depth 8, gets the
cleaned, typed columns as a table, texts as categories. Each runs in a process of its own; the seed is that
of the models.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from separate_runs import CORES, generate, measured, spark_session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

PRICE = "price_usd"
# What names a row, tells the price, or is a list of words.
LEFT_OUT = ["vin", "listing_id", "split", "fold", PRICE, "savings_amount_usd", "major_options"]
Errors = dict[str, float]


def platform(folder: Path, seed: int) -> dict[str, Errors]:
    """Errors of each member and of the stack; writes the rows that the other gets."""
    from usedcars_assets.pipeline.cleaning import clean_listings
    from usedcars_assets.pipeline.features import FeatureSettings, build_features, split_rows
    from usedcars_assets.pipeline.members import MEMBERS
    from usedcars_assets.pipeline.members.training import train_member
    from usedcars_assets.pipeline.raw_listings import read_raw_listings
    from usedcars_assets.pipeline.stacking import train_stack
    from usedcars_assets.pipeline.tables import read_table, write_table

    spark = spark_session("4g")
    lake, settings = folder.as_uri(), FeatureSettings()
    with clean_listings(read_raw_listings(spark, (folder / "raw.csv").as_uri())) as batch:
        write_table(batch.cleaned, f"{lake}/cleaned")
    cleaned = read_table(spark, f"{lake}/cleaned")
    write_table(split_rows(cleaned, settings), f"{lake}/split")
    tables = build_features(cleaned, settings)
    write_table(tables.train, f"{lake}/train")
    write_table(tables.test, f"{lake}/test")
    train, test = read_table(spark, f"{lake}/train"), read_table(spark, f"{lake}/test")
    members = {
        name: train_member(name, train, test, MEMBERS[name].defaults, seed)
        for name in ("gradient_boosting", "residual_boosting", "support_vector", "elastic_net")
    }
    stack = train_stack(
        {name: member.out_of_fold for name, member in members.items()},
        {name: member.test_predictions for name, member in members.items()},
    )
    found = {f"platform, {name}": member.test_metrics for name, member in members.items()}
    found["platform, stack"] = stack.test_metrics
    spark.stop()
    return {name: {"rmse": of.rmse, "mae": of.mae, "r2": of.r2} for name, of in found.items()}


def plain_rows(folder: Path) -> "tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]":
    """Training and test rows as numbers and categories, and their prices."""
    import pandas as pd

    rows = pd.read_parquet(folder / "split")
    plain = rows.drop(columns=LEFT_OUT, errors="ignore")
    for name in plain.columns:
        if name.endswith("_date"):
            plain[name] = (pd.to_datetime(plain[name]) - pd.Timestamp("2000-01-01")).dt.days
        elif plain[name].dropna().map(type).eq(str).any():
            plain[name] = plain[name].astype("category")
        else:
            plain[name] = plain[name].astype("float64")
    in_train = rows["split"] == "train"
    return plain[in_train], plain[~in_train], rows.loc[in_train, PRICE], rows.loc[~in_train, PRICE]


def xgboost_on_plain_columns(folder: Path, seed: int) -> dict[str, Errors]:
    from xgboost import XGBRegressor

    train, test, prices, true = plain_rows(folder)
    model = XGBRegressor(
        n_estimators=400,
        max_depth=8,
        learning_rate=0.1,
        enable_categorical=True,
        n_jobs=CORES,
        random_state=seed,
    )
    model.fit(train, prices)
    return {"XGBoost, 400 trees of depth 8": errors_of(true, model.predict(test))}


def errors_of(true: "pd.Series", predicted: "npt.NDArray[np.float64]") -> Errors:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "rmse": root_mean_squared_error(true, predicted),
        "mae": mean_absolute_error(true, predicted),
        "r2": r2_score(true, predicted),
    }


RUNS: dict[str, Callable[[Path, int], dict[str, Errors]]] = {
    "platform": platform,
    "xgboost": xgboost_on_plain_columns,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--file", type=Path, help="a raw file, instead of a generated one")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--run", choices=sorted(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(RUNS[arguments.run](arguments.folder, arguments.seed)))
        return
    table = Table("", "RMSE", "MAE", "R²", "seconds, all")
    with tempfile.TemporaryDirectory(prefix="usedcars-error-") as temporary:
        folder = Path(temporary)
        if arguments.file:
            (folder / "raw.csv").symlink_to(arguments.file.resolve())
        else:
            generate(folder / "raw.csv", arguments.rows)
        for run in RUNS:
            began = time.monotonic()
            errors = measured(__file__, run, folder=folder, seed=arguments.seed)
            seconds = time.monotonic() - began
            for name, found in errors.items():
                table.add_row(
                    name,
                    f"{found['rmse']:,.0f}",
                    f"{found['mae']:,.0f}",
                    f"{found['r2']:.4f}",
                    f"{seconds:.0f}",
                )
    Console().print(table)


if __name__ == "__main__":
    main()
