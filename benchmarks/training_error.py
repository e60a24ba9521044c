"""Errors of the platform's models beside those of a notebook's, on the same rows.

    python benchmarks/training_error.py [--rows 60000 | --file RAW.csv | --cleaned-sample FILE.csv]
        [--seed 20] [--divisions 1] [--beside xgboost …] [--automl-seconds 300]

All learn from the same cleaned rows and are asked for the prices of the same test rows. The platform gets
them raw and does what a training does, with its defaults. The others get the cleaned, typed columns as a
table, texts as categories, and learn the logarithm of the price where that serves them better: XGBoost with
400 trees of depth 8; a stack of scikit-learn, its boosting tuned by a random search; FLAML, an AutoML, for
--automl-seconds. Each runs in a process of its own; the seed is that of the models. Of few rows the test part
tells little: with more --divisions, each into other parts, the errors are means over them.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from cleaned_sample import write_as_raw
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


def platform(folder: Path, seed: int, division: int) -> dict[str, Errors]:
    """Errors of each member and of the stack; writes the rows that the other gets."""
    from usedcars_assets.pipeline.cleaning import clean_listings
    from usedcars_assets.pipeline.features import FeatureSettings, build_features, split_rows
    from usedcars_assets.pipeline.members import MEMBERS
    from usedcars_assets.pipeline.members.training import train_member
    from usedcars_assets.pipeline.raw_listings import read_raw_listings
    from usedcars_assets.pipeline.stacking import train_stack
    from usedcars_assets.pipeline.tables import read_table, write_table

    spark = spark_session("4g")
    lake, settings = folder.as_uri(), FeatureSettings(seed=FeatureSettings.seed + division)
    with clean_listings(read_raw_listings(spark, (folder / "raw.csv").as_uri())) as batch:
        write_table(batch.cleaned, f"{lake}/cleaned", overwrite=True)
    cleaned = read_table(spark, f"{lake}/cleaned")
    write_table(split_rows(cleaned, settings), f"{lake}/split", overwrite=True)
    tables = build_features(cleaned, settings)
    write_table(tables.train, f"{lake}/train", overwrite=True)
    write_table(tables.test, f"{lake}/test", overwrite=True)
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
    plain = rows.drop(columns=LEFT_OUT, errors="ignore").dropna(axis="columns", how="all")
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


def scikit_learn_stack(folder: Path, seed: int) -> dict[str, Errors]:
    """Boosting, extremely randomised trees and ridge, stacked by five folds."""
    import numpy as np
    from scipy.stats import loguniform, randint
    from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
    from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, StackingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import RandomizedSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler, TargetEncoder

    train, test, prices, true = plain_rows(folder)
    columns = make_column_transformer(
        (TargetEncoder(random_state=seed), make_column_selector(dtype_include="category")),
        remainder="passthrough",
    )
    search = RandomizedSearchCV(
        make_pipeline(columns, HistGradientBoostingRegressor(max_iter=400, random_state=seed)),
        {
            "histgradientboostingregressor__learning_rate": loguniform(0.02, 0.2),
            "histgradientboostingregressor__max_leaf_nodes": randint(15, 128),
            "histgradientboostingregressor__min_samples_leaf": randint(5, 80),
            "histgradientboostingregressor__l2_regularization": loguniform(1e-3, 10),
        },
        n_iter=10,
        cv=3,
        random_state=seed,
    ).fit(train, np.log(prices))
    trees = ExtraTreesRegressor(200, min_samples_leaf=2, n_jobs=CORES, random_state=seed)
    stack = StackingRegressor(
        [
            ("boosting", search.best_estimator_),
            ("trees", make_pipeline(columns, SimpleImputer(), trees)),
            ("ridge", make_pipeline(columns, SimpleImputer(), StandardScaler(), RidgeCV())),
        ],
        final_estimator=RidgeCV(),
        cv=5,
    )
    model = TransformedTargetRegressor(stack, func=np.log, inverse_func=np.exp).fit(train, prices)
    return {"scikit-learn, tuned stack": errors_of(true, model.predict(test))}


def flaml_automl(folder: Path, seed: int, seconds: float) -> dict[str, Errors]:
    import numpy as np
    from flaml import AutoML

    train, test, prices, true = plain_rows(folder)
    search = AutoML()
    search.fit(
        X_train=train,
        y_train=np.log(prices),
        task="regression",
        metric="rmse",
        time_budget=seconds,
        n_jobs=CORES,
        seed=seed,
        verbose=0,
    )
    return {f"FLAML for {seconds:.0f} s": errors_of(true, np.exp(search.predict(test)))}


def errors_of(true: "pd.Series", predicted: "npt.NDArray[np.float64]") -> Errors:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "rmse": root_mean_squared_error(true, predicted),
        "mae": mean_absolute_error(true, predicted),
        "r2": r2_score(true, predicted),
    }


PEERS = ("xgboost", "scikit-learn", "flaml")
RUNS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Errors]]] = {
    "platform": lambda folder, asked: platform(folder, asked.seed, asked.division),
    "xgboost": lambda folder, asked: xgboost_on_plain_columns(folder, asked.seed),
    "scikit-learn": lambda folder, asked: scikit_learn_stack(folder, asked.seed),
    "flaml": lambda folder, asked: flaml_automl(folder, asked.seed, asked.automl_seconds),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--file", type=Path, help="a raw file, instead of a generated one")
    parser.add_argument("--cleaned-sample", type=Path, help="rows in the form of cleaned_sample.py instead")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--divisions", type=int, default=1, help="of the rows into training and test part")
    parser.add_argument("--automl-seconds", type=float, default=300, help="what FLAML may search")
    parser.add_argument("--beside", nargs="*", choices=PEERS, default=PEERS, help="whom to compare with")
    parser.add_argument("--run", choices=sorted(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--division", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(RUNS[arguments.run](arguments.folder, arguments)))
        return
    found: dict[str, list[Errors]] = {}
    with tempfile.TemporaryDirectory(prefix="usedcars-error-") as temporary:
        folder = Path(temporary)
        if arguments.file:
            (folder / "raw.csv").symlink_to(arguments.file.resolve())
        elif arguments.cleaned_sample:
            write_as_raw(arguments.cleaned_sample, folder / "raw.csv")
        else:
            generate(folder / "raw.csv", arguments.rows)
        for division in range(arguments.divisions):
            for run in ("platform", *arguments.beside):
                began = time.monotonic()
                given = {"seed": arguments.seed, "automl-seconds": arguments.automl_seconds}
                errors = measured(__file__, run, folder=folder, division=division, **given)
                for name, each in errors.items():
                    found.setdefault(name, []).append({**each, "seconds": time.monotonic() - began})
    table = Table("", "RMSE", "MAE", "R²", "seconds, all", "RMSE of each division")
    for name, of_divisions in found.items():
        mean = {key: fmean(each[key] for each in of_divisions) for key in of_divisions[0]}
        table.add_row(
            name,
            f"{mean['rmse']:,.0f}",
            f"{mean['mae']:,.0f}",
            f"{mean['r2']:.4f}",
            f"{mean['seconds']:.0f}",
            ", ".join(f"{each['rmse']:,.0f}" for each in of_divisions),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
