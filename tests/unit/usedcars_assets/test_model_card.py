from dataclasses import replace
from datetime import date

from pyspark.sql import Row

from usedcars_assets.pipeline.error_slices import SliceErrors
from usedcars_assets.pipeline.evaluation import Metrics
from usedcars_assets.references import StackedModel, Training, TrainingExport
from usedcars_assets.registry.model_card import as_html, card_markdown
from usedcars_assets.training.plots import predicted_against_true

METRICS = {
    "rows": 90.0,
    "rmse": 2718.2,
    "mae": 1859.0,
    "mape": 0.09,
    "r2": 0.96,
    "median_absolute_error": 1200.0,
}
WORSE = {**METRICS, "rmse": 2900.0}
TRAINING = Training(
    training_id="t1",
    mlflow_run_id="m1",
    batches=(),
    left_out=(),
    members=("gradient_boosting", "elastic_net"),
    folds=5,
    seed=20,
    cleaned_rows=600,
    data_version="d1",
)


def card(make: str = "Ford", best: dict[str, float] = WORSE) -> str:
    stacked = StackedModel(
        training=TRAINING,
        path="trainings/t1/stack",
        split_path="trainings/t1/split",
        mlflow_run_id="m2",
        weights={"gradient_boosting": 0.9, "elastic_net": 0.1},
        test=METRICS,
        best_member="gradient_boosting",
        best_member_test=best,
        interval_coverage={0.5: 0.512, 0.9: 0.897},
        interval_width={0.5: 0.14, 0.9: 0.38},
        input_example="{}",
        gates={},
    )
    export = TrainingExport(
        training=TRAINING,
        version="7",
        path="exports/model_version=7",
        rows=600,
        feature_settings={},
        parameters={"gradient_boosting": {"max_depth": 7}, "elastic_net": {}},
        test={"stacked_model": METRICS, "gradient_boosting": best},
    )
    metrics = Metrics(**METRICS)  # type: ignore[arg-type]
    errors = {"make": [SliceErrors(make, replace(metrics, rows=12), -0.12, 0.01, 0.2, 0.875, 0.41)]}
    importance = {"nothing": metrics, "mileage": replace(metrics, rmse=5436.4)}
    data = [
        Row(
            split="train",
            rows=510,
            first_date=date(2020, 1, 2),
            last_date=None,
            median_price=19_000.0,
            makes=30,
        )
    ]
    links = {"mlflow_run": "http://mlflow/run", "dagster_run": "http://dagster/run"}
    plot = predicted_against_true([1_000, 2_000], [1_100, 1_900], "two rows")
    return card_markdown(
        stacked, export, errors, importance, data, plot=plot, model="usedcars-price", trained=0, links=links
    )


def test_the_card_tells_version_data_members_errors_and_where_they_are_large() -> None:
    text = card()
    assert text.startswith("# usedcars-price, version 7\n")
    assert "Trained 1970-01-01 00:00 UTC" in text
    assert "| train | 510 | 2020-01-02 | not known | 19,000 | 30 |" in text
    assert "| gradient_boosting | 0.900 | max_depth 7 |" in text
    assert "| stacked_model | 90 | 2,718 | 1,859 | 0.090 | 0.960 | 1,200 |" in text
    assert (
        "| Ford | 12 | 2,718 | 1,859 | 0.090 | 0.960 | 1,200 | +1.0% | -12.0% | +20.0% | 87.5% | 41% |"
        in text
    )
    assert "| 50% | 51.2% | 14% |\n| 90% | 89.7% | 38% |" in text
    assert "| mileage | 5,436 | 2.00 |\n| nothing | 2,718 | 1.00 |" in text
    assert text.count("data:image/png;base64,") == 2


def test_the_card_says_whether_the_stack_is_better_than_its_best_member() -> None:
    assert "The stack's RMSE is 6.3% less than that of its best member, gradient_boosting." in card()
    assert "is 8.7% more than" in card(best={**METRICS, "rmse": 2500.0})
    assert "as good as its best member, gradient_boosting, and not better" in card(best=METRICS)


def test_markup_in_a_make_stays_text_on_the_page() -> None:
    page = as_html(card(make='<script>alert("1")</script>'))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<table>") == 6
    assert page.count('<img src="data:image/png;base64,') == 2
