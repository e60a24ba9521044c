"""Plots of a training, small enough to be kept as metadata."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PREDICTED_AGAINST_TRUE = "predicted_against_true.png"
_PLOTTED_ROWS = 5000


def predicted_against_true(true: Sequence[float], predicted: Sequence[float], title: str) -> bytes:
    """A PNG of predicted against true price in USD, both axes logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.2), dpi=90, layout="constrained")  # not pyplot: it is not thread-safe
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    low = max(min(*true, *predicted), 1.0)
    high = max(*true, *predicted)
    shown = np.maximum(predicted, low)
    axes.hexbin(true, shown, gridsize=60, xscale="log", yscale="log", bins="log", cmap="viridis", mincnt=1)
    axes.plot([low, high], [low, high], color="black", linewidth=0.8)
    axes.set(xlabel="true price (USD)", ylabel="predicted price (USD)", title=title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def plot_of(predictions: "DataFrame") -> bytes:
    """The same of up to 5,000 of the rows: `listing_id`, `price` and `prediction`, both in USD."""
    sample = predictions.orderBy("listing_id").select("price", "prediction").limit(_PLOTTED_ROWS).collect()
    true, predicted = [row.price for row in sample], [row.prediction for row in sample]
    return predicted_against_true(true, predicted, f"{len(sample):,} test rows")


def as_markdown_image(png: bytes, alternative: str) -> str:
    """The picture inside a Markdown text."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"
