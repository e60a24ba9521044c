"""What is known of a model version, on one page for people: data, errors, where they are large, limits."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dagster import AssetExecutionContext, MetadataValue, Output, asset

from usedcars_assets.failures import OUTAGE_RETRIES, clear_failures
from usedcars_assets.ingestion.batches import OWNERS
from usedcars_assets.metadata import table_markdown
from usedcars_assets.references import ModelCard, StackedModel, TrainingExport
from usedcars_assets.resources.lake import Lake
from usedcars_assets.resources.mlflow import MlflowTracking
from usedcars_assets.resources.spark import SharedSpark
from usedcars_assets.training.plots import PREDICTED_AGAINST_TRUE, as_markdown_image, residuals_by_slice

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row

    from usedcars_assets.pipeline.error_slices import SliceErrors
    from usedcars_assets.pipeline.evaluation import Metrics

CARD_MARKDOWN, CARD_HTML = "model_card.md", "model_card.html"
ERRORS_BY_SLICE, IMPORTANCE = "errors_by_slice.json", "permutation_importance.json"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Model card</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ border-bottom: 1px solid #ddd; padding: .2rem .8rem .2rem 0; text-align: left; }}
img {{ max-width: 100%; }}
</style></head><body>
{body}</body></html>
"""


@asset(
    name="model_card",
    description="A page on the registered version: data, errors, where they are large, limits.",
    group_name="registry",
    owners=OWNERS,
    tags={"layer": "models"},
    kinds={"mlflow", "markdown"},
    code_version="2",
    retry_policy=OUTAGE_RETRIES,
)
def model_card(
    context: AssetExecutionContext,
    stacked_model: StackedModel,
    training_export: TrainingExport,
    spark: SharedSpark,
    lake: Lake,
    mlflow: MlflowTracking,
) -> Output[ModelCard]:
    """Writes the card, as Markdown and HTML, to the MLflow run of the version's training."""
    from usedcars_assets.pipeline.error_slices import errors_by_slice
    from usedcars_assets.pipeline.permutation_importance import permutation_importance
    from usedcars_assets.pipeline.queries_at_once import queries_at_once
    from usedcars_assets.pipeline.tables import read_table
    from usedcars_assets.registry.tracking import log_file, read_file

    started = time.monotonic()
    run_id = stacked_model.training.mlflow_run_id
    with clear_failures("writing the model card"):
        with spark.step(context) as session:
            predictions = read_table(session, lake.uri(f"{stacked_model.path}/test_predictions"))
            rows = read_table(session, lake.uri(training_export.path))
            artefact = spark.model(lake.uri(f"{stacked_model.path}/artefact"))
            errors, importance, data = queries_at_once(
                session,
                lambda: errors_by_slice(predictions.join(rows, "listing_id")),
                lambda: permutation_importance(artefact, rows.where("split = 'test'")),
                lambda: _data(rows),
            )
        client, experiment_id = mlflow.client(), mlflow.experiment_id()
        card = card_markdown(
            stacked_model,
            training_export,
            errors,
            importance,
            data,
            plot=read_file(client, run_id, PREDICTED_AGAINST_TRUE),
            model=mlflow.registered_model,
            trained=client.get_run(run_id).info.start_time / 1000,
            links={
                "mlflow_run": mlflow.run_url(run_id, experiment_id),
                "dagster_run": mlflow.dagster_run_url(stacked_model.training.training_id),
            },
        )
        log_file(client, run_id, CARD_MARKDOWN, card.encode())
        log_file(client, run_id, CARD_HTML, as_html(card).encode())
        by_slice = {name: [asdict(one) for one in found] for name, found in errors.items()}
        client.log_dict(run_id, by_slice, ERRORS_BY_SLICE)
        client.log_dict(run_id, {name: asdict(one) for name, one in importance.items()}, IMPORTANCE)
    metadata: dict[str, Any] = {
        "card": MetadataValue.md(card),
        "version": training_export.version,
        "mlflow_run": MetadataValue.url(mlflow.run_url(run_id, experiment_id)),
        "seconds": time.monotonic() - started,
    }
    return Output(ModelCard(version=training_export.version, mlflow_run_id=run_id), metadata=metadata)


def card_markdown(
    stacked: StackedModel,
    export: TrainingExport,
    errors: "Mapping[str, Sequence[SliceErrors]]",
    importance: "Mapping[str, Metrics]",
    data: "Sequence[Row]",
    *,
    plot: bytes,
    model: str,
    trained: float,
    links: Mapping[str, str],
) -> str:
    """The card. trained: seconds since the epoch; data: rows by split, with their dates and prices."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from usedcars_assets.pipeline.error_slices import LEAST_ROWS, MOST_VALUES
    from usedcars_assets.pipeline.permutation_importance import MOST_ROWS
    from usedcars_assets.pipeline.prediction_intervals import SERVED_LEVEL

    training = export.training
    # The result is Markdown; what it becomes, as_html and Dagster's UI, lets no markup of its values through.
    templates = Environment(  # noqa: S701
        loader=PackageLoader("usedcars_assets.registry", "."), undefined=StrictUndefined, trim_blocks=True
    )
    dates = [date for row in data for date in (row.first_date, row.last_date) if date is not None]
    return templates.get_template("model_card.md.j2").render(
        name=model,
        version=export.version,
        trained=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(trained)),
        data=table_markdown([_data_row(row) for row in data]),
        data_version=training.data_version,
        batches=[version.batch for version in training.batches],
        folds=training.folds,
        seed=training.seed,
        members=table_markdown(
            [
                {
                    "base model": name,
                    "weight": f"{stacked.weights[name]:.3f}",
                    "parameters": ", ".join(f"{key} {value}" for key, value in parameters.items()),
                }
                for name, parameters in export.parameters.items()
            ]
        ),
        errors=table_markdown([{"model": name, **_metrics(test)} for name, test in export.test.items()]),
        comparison=_comparison(stacked),
        intervals=table_markdown(
            [
                {
                    "meant to hold": f"{level:.0%}",
                    "holds": f"{coverage:.1%}",
                    "width": f"{stacked.interval_width[level]:.0%}",
                }
                for level, coverage in stacked.interval_coverage.items()
            ]
        ),
        served_level=f"{SERVED_LEVEL:.0%}",
        plot=as_markdown_image(plot, "predicted against listed price"),
        slices={
            name: table_markdown([_slice_row(name, one) for one in found]) for name, found in errors.items()
        },
        importance=table_markdown(_importance_rows(importance)),
        residuals=as_markdown_image(residuals_by_slice(errors), "relative residuals by slice"),
        dates=f"from {min(dates)} to {max(dates)}" if dates else "without dates",
        importance_rows=MOST_ROWS,
        least_rows=LEAST_ROWS,
        most_values=MOST_VALUES,
        **links,
    )


def as_html(markdown: str) -> str:
    """The card as a page of its own; markup inside its values stays text."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return _PAGE.format(body=body)


def _data(rows: "DataFrame") -> "list[Row]":
    from pyspark.sql import functions as sf

    return (
        rows.groupBy("split")
        .agg(
            sf.count(sf.lit(1)).alias("rows"),
            sf.min("listed_date").alias("first_date"),
            sf.max("listed_date").alias("last_date"),
            sf.percentile("price_usd", sf.lit(0.5)).alias("median_price"),
            sf.count_distinct("make_name").alias("makes"),
        )
        .orderBy(sf.desc("split"))
        .collect()
    )


def _data_row(row: "Row") -> dict[str, str]:
    return {
        "rows for": row.split,
        "rows": f"{row.rows:,}",
        "listed from": str(row.first_date or "not known"),
        "to": str(row.last_date or "not known"),
        "median price": f"{row.median_price:,.0f}",
        "makes": str(row.makes),
    }


def _comparison(stacked: StackedModel) -> str:
    own, best = stacked.test["rmse"], stacked.best_member_test["rmse"]
    difference = (best - own) / best
    if abs(difference) < 0.005:  # says nothing
        return f"The stack is as good as its best member, {stacked.best_member}, and not better."
    word = "less" if difference > 0 else "more"
    return (
        f"The stack's RMSE is {abs(difference):.1%} {word} than that of its best member, "
        f"{stacked.best_member}."
    )


def _metrics(values: Mapping[str, float]) -> dict[str, str]:
    return {
        name: "" if math.isnan(value) else f"{value:.3f}" if name in ("mape", "r2") else f"{value:,.0f}"
        for name, value in values.items()
    }


def _importance_rows(importance: "Mapping[str, Metrics]") -> list[dict[str, str]]:
    from usedcars_assets.pipeline.permutation_importance import NOTHING

    whole = importance[NOTHING].rmse
    ordered = sorted(importance.items(), key=lambda one: (-one[1].rmse, one[0]))
    return [
        {
            "shuffled": name,
            "rmse": f"{errors.rmse:,.0f}",
            "times": f"{errors.rmse / whole:.2f}",
        }
        for name, errors in ordered
    ]


def _slice_row(name: str, errors: "SliceErrors") -> dict[str, str]:
    return {
        name: errors.value,
        **_metrics(asdict(errors.metrics)),
        "bias": f"{errors.median:+.1%}",
        "from": f"{errors.tenth:+.1%}",
        "to": f"{errors.ninetieth:+.1%}",
        "inside": f"{errors.coverage:.1%}",
        "width": f"{errors.width:.0%}",
    }
