"""How close generated listings come to the real ones.

    python benchmarks/calibration.py REAL.csv GENERATED.csv

REAL.csv is a cleaned sample of the published file (28 columns, units removed); GENERATED.csv a raw file of
`usedcars-simulation generate`, which is cleaned here the same way. Prints Markdown tables: distributions
(quantiles, shares, and the population stability index PSI, the sum of (p - q) ln(p / q) over deciles or
categories: below 0.1 the two are alike, above 0.25 they are not), and how well XGBoost predicts the price on
both (R2, RMSE, MAE of a five-fold cross-validation on the same count of rows, and shares of the gain).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import KFold
from xgboost import XGBRegressor

SEED = 20
PARAMETERS = {
    "n_estimators": 400,
    "max_depth": 6,
    "learning_rate": 0.06,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
}
STATES = {"TX", "CA", "FL", "OH", "IL", "PA", "NY"}  # what the sample was cut to, as with the colours
COLOURS = {"WHITE", "BLACK", "GRAY", "SILVER", "BLUE", "RED"}
UNITS = [
    "back_legroom",
    "front_legroom",
    "fuel_tank_volume",
    "height",
    "length",
    "maximum_seating",
    "wheelbase",
    "width",
]
NUMBERS = [
    *("price", "city_fuel_economy", "daysonmarket", "engine_displacement", "highway_fuel_economy"),
    *("mileage", "savings_amount", "year", "horsepower"),
]
TEXTS = ["body_type", "fuel_type", "is_new", "listing_color", "transmission", "wheel_system_display"]
LONGEST_DAYS_ON_MARKET = 102
# In the sample these two are unrelated to the rest of their row: torque correlates with power by 0.00.
MISPLACED = ["torque", "torque_rpm"]


def cleaned(path: Path, states: dict[str, str]) -> pd.DataFrame:
    """The raw listings, typed and filtered as the sample is."""
    raw = pd.read_csv(path, dtype=str, keep_default_na=False)
    table = raw[TEXTS].copy()
    for name in UNITS:
        table[name] = pd.to_numeric(raw[name].str.extract(r"([\d.]+)")[0])
    for name in NUMBERS:
        table[name] = pd.to_numeric(raw[name])
    revolutions = raw["power"].str.extract(r"@ ([\d,]+)")[0].str.replace(",", "")
    table["horsepower_rpm"] = pd.to_numeric(revolutions)
    table["State"] = raw["dealer_zip"].map(states)
    table["listed_date_yearMonth"] = raw["listed_date"].str[:7]
    table = table[
        (table.year >= 2016) & (table.price <= 50_000) & (table.price >= 5_000) & (table.year <= 2021)
    ]
    table = table[table.State.isin(STATES) & table.listing_color.isin(COLOURS)]
    table = table[raw["torque"].reindex(table.index) != ""]
    table = table[(table.daysonmarket <= LONGEST_DAYS_ON_MARKET) & (table.mileage < 200_000)]
    return table.replace("", np.nan).dropna()


def zip_states() -> dict[str, str]:
    """The state of every zip of the simulation."""
    places = pd.read_csv(Path(__file__).parent.parent / "simulation/catalogue/places.csv", dtype=str)
    return {
        code: state
        for codes, state in zip(places["zips"], places["state"], strict=True)
        for code in codes.split()
    }


def psi(
    real: Sequence[float] | npt.NDArray[np.float64], other: Sequence[float] | npt.NDArray[np.float64]
) -> float:
    """Population stability index of two vectors of shares."""
    p, q = (np.maximum(np.asarray(shares, dtype=float), 1e-4) for shares in (real, other))
    return float(((p - q) * np.log(p / q)).sum())


def numeric_psi(real: pd.Series, other: pd.Series) -> float:
    """PSI over the real deciles."""
    edges = np.unique(np.quantile(real, np.arange(0.1, 1, 0.1)))
    shares = [
        np.bincount(np.searchsorted(edges, s), minlength=len(edges) + 1) / len(s) for s in (real, other)
    ]
    return psi(*shares)


def spread(values: pd.Series) -> str:
    """The 5, 50 and 95 % quantiles."""
    quantiles = values.quantile([0.05, 0.5, 0.95])
    return " / ".join(f"{value:,.4g}" if value < 1000 else f"{value:,.0f}" for value in quantiles)


def missing_table(raw: Path, published: Path) -> str:
    """Shares of empty fields over all generated rows, beside the published ones."""
    counts = pd.read_csv(published).set_index("column")["null_ratio"]
    empty = (pd.read_csv(raw, dtype=str, keep_default_na=False) == "").mean()
    difference = (empty - counts).abs().sort_values(ascending=False)
    lines = [
        f"Missing values: the columns differ by {difference.max():.4f} at most; the furthest:\n",
        "| column | published | generated |\n|---|---|---|",
    ]
    lines += [f"| {name} | {counts[name]:.4f} | {empty[name]:.4f} |" for name in difference.index[:6]]
    return "\n".join(lines)


def quantile_table(real: pd.DataFrame, other: pd.DataFrame, names: Sequence[str]) -> str:
    lines = ["| column | real 5 / 50 / 95 % | generated | PSI |", "|---|---|---|---|"]
    for name in names:
        told = [spread(table[name]) for table in (real, other)]
        lines.append(f"| {name} | {told[0]} | {told[1]} | {numeric_psi(real[name], other[name]):.2f} |")
    return "\n".join(lines)


def share_table(real: pd.DataFrame, other: pd.DataFrame, names: Sequence[str]) -> str:
    lines = ["| column | real | generated | PSI |", "|---|---|---|---|"]
    for name in names:
        shares = [s[name].astype(str).value_counts(normalize=True) for s in (real, other)]
        every = sorted(set(shares[0].index) | set(shares[1].index))
        told = [", ".join(f"{key} {s.get(key, 0):.1%}" for key in shares[0].index[:5]) for s in shares]
        value = psi(*([s.get(key, 0.0) for key in every] for s in shares))
        lines.append(f"| {name} | {told[0]} | {told[1]} | {value:.2f} |")
    return "\n".join(lines)


def scores(table: pd.DataFrame) -> tuple[list[float], pd.Series]:
    """R2, RMSE and MAE in dollars of a five-fold cross-validation; shares of the gain."""
    features = table.drop(columns=["price"])
    for name in features.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in features.dtypes]]:
        features[name] = features[name].astype(str).astype("category")
    predicted, gains = np.zeros(len(table)), []
    for train, test in KFold(5, shuffle=True, random_state=SEED).split(features):
        model = XGBRegressor(**PARAMETERS, enable_categorical=True, n_jobs=2, random_state=SEED)
        model.fit(features.iloc[train], table.price.iloc[train])
        predicted[test] = model.predict(features.iloc[test])
        gains.append(pd.Series(model.get_booster().get_score(importance_type="total_gain")))
    gain = pd.concat(gains, axis=1).fillna(0).mean(axis=1)
    true = table.price
    figures = [
        r2_score(true, predicted),
        root_mean_squared_error(true, predicted),
        mean_absolute_error(true, predicted),
    ]
    return figures, (gain / gain.sum()).sort_values(ascending=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("real", type=Path)
    parser.add_argument("generated", type=Path)
    parser.add_argument("--missing", type=Path, help="CSV of published missing values: column, null_ratio")
    arguments = parser.parse_args()
    real = pd.read_csv(arguments.real).drop(columns=MISPLACED)
    every = cleaned(arguments.generated, zip_states())
    if len(every) < len(real):
        parser.error(
            f"only {len(every)} generated rows pass the filter, {len(real)} are needed: generate more"
        )
    generated = every.sample(len(real), random_state=SEED).reset_index(drop=True)[real.columns]
    numeric = [name for name in real.columns if name in {*UNITS, *NUMBERS, "horsepower_rpm"}]
    print(f"{len(real):,} rows of each; {len(every):,} generated rows passed the filter.\n")
    print(quantile_table(real, generated, numeric), "\n")
    texts = [name for name in real.columns if name not in numeric]
    print(share_table(real, generated, texts), "\n")
    if arguments.missing:
        print(missing_table(arguments.generated, arguments.missing), "\n")
    (r, real_gain), (g, gain) = scores(real), scores(generated)
    print("| XGBoost, five folds | R2 | RMSE | MAE |\n|---|---|---|---|")
    for name, (r2, rmse, mae) in (("real", r), ("generated", g)):
        print(f"| {name} | {r2:.3f} | {rmse:,.0f} | {mae:,.0f} |")
    ranks = real_gain.rank().corr(gain.reindex(real_gain.index).fillna(0).rank())
    print(f"\nRank correlation of the shares of the gain: {ranks:.2f}\n")
    print("| column | real | generated |\n|---|---|---|")
    for name in real_gain.index[:12]:
        print(f"| {name} | {real_gain[name]:.3f} | {gain.get(name, 0):.3f} |")


if __name__ == "__main__":
    main()
