"""pandas, scikit-learn and XGBoost: a raw file, a stack of three by five folds, in one process.

python benchmarks/peers/pandas_notebook.py RAW.csv TEST_IDS.txt CORES
"""

import json
import sys

import numpy as np
import pandas as pd
from notebook_columns import CATEGORIES, NUMBERS
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, StackingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, TargetEncoder
from xgboost import XGBRegressor

MORE_CATEGORIES = ["city", "dealer_zip", "trim_name"]


def main(file: str, test_ids: str, cores: int) -> None:
    raw = pd.read_csv(file, low_memory=False)
    raw["price"] = pd.to_numeric(raw["price"], errors="coerce")
    raw["listing_id"] = raw["listing_id"].astype(str)
    raw = raw[raw["price"].between(500, 200_000)].drop_duplicates("listing_id", keep="last")
    rows = pd.DataFrame({name: raw[name].astype(str).astype("category") for name in CATEGORIES})
    for name in MORE_CATEGORIES:
        rows[name] = raw[name].astype(str).astype("category")
    for name in NUMBERS:
        number = raw[name].astype(str).str.extract(r"^\s*([-0-9.,]+)")[0].str.replace(",", "")
        rows[name] = pd.to_numeric(number, errors="coerce")
    with open(test_ids, encoding="utf-8") as lines:
        in_test = raw["listing_id"].isin(lines.read().split())
    train, test = rows[~in_test], rows[in_test]

    encoded = make_column_transformer(
        (TargetEncoder(random_state=1), make_column_selector(dtype_include="category")),
        remainder="passthrough",
    )
    boosting = XGBRegressor(
        n_estimators=400,
        max_depth=8,
        learning_rate=0.1,
        enable_categorical=True,
        n_jobs=cores,
        random_state=1,
    )
    histogram = HistGradientBoostingRegressor(max_iter=400, random_state=1)
    stack = StackingRegressor(
        [
            ("xgboost", boosting),
            ("histogram", make_pipeline(encoded, histogram)),
            ("ridge", make_pipeline(encoded, SimpleImputer(), StandardScaler(), RidgeCV())),
        ],
        final_estimator=RidgeCV(),
        cv=5,
    )
    model = TransformedTargetRegressor(stack, func=np.log, inverse_func=np.exp)
    predicted = model.fit(train, raw.loc[~in_test, "price"]).predict(test)
    true = raw.loc[in_test, "price"]
    errors = {
        "rmse": root_mean_squared_error(true, predicted),
        "mae": mean_absolute_error(true, predicted),
        "r2": r2_score(true, predicted),
    }
    print(json.dumps({**errors, "test_rows": int(in_test.sum())}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
