"""Plots of a training, small enough to be kept as metadata."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pyspark.sql import DataFrame

    from usedcars_assets.pipeline.error_slices import SliceErrors
    from usedcars_assets.pipeline.hyperparameter_search import Trial
    from usedcars_assets.pipeline.stage_times import StageTime

PREDICTED_AGAINST_TRUE = "predicted_against_true.png"
LEARNING_CURVES = "learning_curves.png"
_PLOTTED_ROWS = 5000


def predicted_against_true(true: Sequence[float], predicted: Sequence[float], title: str) -> bytes:
    """A PNG of predicted against true price in USD, both axes logarithmic."""
    figure = _figure(4.6, 4.2)
    axes = figure.add_subplot()
    low = max(min(*true, *predicted), 1.0)
    high = max(*true, *predicted)
    shown = np.maximum(predicted, low)
    axes.hexbin(true, shown, gridsize=60, xscale="log", yscale="log", bins="log", cmap="viridis", mincnt=1)
    axes.plot([low, high], [low, high], color="black", linewidth=0.8)
    axes.set(xlabel="true price (USD)", ylabel="predicted price (USD)", title=title)
    return _png(figure)


def plot_of(predictions: "DataFrame") -> bytes:
    """The same of up to 5,000 of the rows: `listing_id`, `price` and `prediction`, both in USD."""
    sample = predictions.orderBy("listing_id").select("price", "prediction").limit(_PLOTTED_ROWS).collect()
    true, predicted = [row.price for row in sample], [row.prediction for row in sample]
    return predicted_against_true(true, predicted, f"{len(sample):,} test rows")


def learning_curves(curves: Sequence[Sequence[tuple[float, float]]], trees: int) -> bytes:
    """A PNG: of each fold the errors of the rows seen and not seen after each tree, and where it stopped."""
    figure = _figure(4.6, 3.4)
    axes = figure.add_subplot()
    for fold, curve in enumerate(curves):
        seen, unseen = zip(*curve, strict=True)
        rounds = np.arange(1, len(curve) + 1)
        axes.plot(rounds, seen, color="tab:gray", linewidth=0.8, label=None if fold else "seen")
        axes.plot(rounds, unseen, color="tab:blue", linewidth=0.8, label=None if fold else "not seen")
    axes.axvline(trees, color="black", linewidth=0.8, linestyle=":", label=f"{trees} trees")
    axes.set(xlabel="trees", ylabel="RMSE of log price", yscale="log", title=f"{len(curves)} folds")
    axes.legend(fontsize=7)
    return _png(figure)


def residuals_by_slice(errors: "Mapping[str, Sequence[SliceErrors]]") -> bytes:
    """A PNG: of each slice's values the median relative residual, and the range of the middle 80 %."""
    heights = [len(values) + 1.5 for values in errors.values()]
    figure = _figure(6.4, max(3.0, 0.24 * sum(heights)))
    panels = figure.subplots(len(errors), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, errors.items(), strict=True):
        places = np.arange(len(values))
        low, median, high = (
            np.array([100 * getattr(value, quantile) for value in values])
            for quantile in ("tenth", "median", "ninetieth")
        )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.hlines(places, low, high, color="tab:blue", linewidth=3, alpha=0.5)
        axes.plot(median, places, "o", color="tab:blue", markersize=4)
        axes.set_yticks(places, [f"{value.value} ({value.metrics.rows:,})" for value in values], fontsize=7)
        axes.set_title(name, fontsize=8, loc="left")
        axes.invert_yaxis()
    panels[-1].set_xlabel("predicted above true price (%): median, and middle 80 % of the rows")
    return _png(figure)


def search_history(trials: "Sequence[Trial]") -> bytes:
    """A PNG: the error of each trial, those given up apart, and the least so far."""
    figure = _figure(4.6, 3.0)
    axes = figure.add_subplot()
    for pruned, color, label in ((False, "tab:blue", "to the end"), (True, "tab:gray", "given up")):
        of_kind = [trial for trial in trials if trial.pruned == pruned]
        numbers, errors = [trial.number for trial in of_kind], [trial.error for trial in of_kind]
        axes.plot(numbers, errors, "o", color=color, markersize=3, label=label)
    whole = sorted((trial for trial in trials if not trial.pruned), key=lambda trial: trial.number)
    least = np.minimum.accumulate([trial.error for trial in whole])
    axes.step([trial.number for trial in whole], least, where="post", color="black", linewidth=0.8)
    axes.set(xlabel="trial", ylabel="RMSE of log price over the folds")
    axes.legend(fontsize=7)
    return _png(figure)


def timeline(stages: "Sequence[StageTime]") -> bytes:
    """A PNG: of each step when its Spark stages ran, darker where several ran at the same time."""
    steps = list(dict.fromkeys(stage.step for stage in stages))
    figure = _figure(7.2, 1.0 + 0.28 * len(steps))
    axes = figure.add_subplot()
    began = min(stage.started for stage in stages)
    for place, step in enumerate(steps):
        bars = [(stage.started - began, stage.seconds) for stage in stages if stage.step == step]
        axes.broken_barh(bars, (place - 0.4, 0.8), color="tab:blue", alpha=0.5, linewidth=0)
    axes.set_yticks(range(len(steps)), steps, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the first stage")
    return _png(figure)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=90, layout="constrained")  # pyplot is not thread-safe
    FigureCanvasAgg(figure)
    return figure


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def as_markdown_image(png: bytes, alternative: str) -> str:
    """The picture inside a Markdown text."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"
