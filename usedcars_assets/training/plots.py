"""Plots of a training, small enough to be kept as metadata."""

import base64
import io
from collections.abc import Sequence

import numpy as np


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


def as_markdown_image(png: bytes, alternative: str) -> str:
    """The picture inside a Markdown text."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"
