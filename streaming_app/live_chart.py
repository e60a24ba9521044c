"""The chart of the manager's page, drawn by matplotlib as SVG: it needs no script in the browser."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from io import BytesIO
from itertools import pairwise
from threading import Lock
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from streaming_app.live_history import History, Point, began
from streaming_app.live_metrics_query import ALL_VERSIONS

_STYLE: Any = {  # matplotlib declares one literal type for all names
    "svg.fonttype": "none",  # the browser's own letters
    "text.parse_math": False,
    "svg.hashsalt": "usedcars",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#c5cad3",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e9ecf1",
    "text.color": "#1d2433",
    "axes.labelcolor": "#5b6475",
    "xtick.color": "#5b6475",
    "ytick.color": "#5b6475",
}
# Told apart also by people who do not see red and green (Okabe and Ito, 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DOLLARS = FuncFormatter(lambda usd, _: f"-${-usd:,.0f}" if usd < 0 else f"${usd:,.0f}")
_COUNTS = FuncFormatter(lambda count, _: f"{count:,.0f}")
_FEW = 40  # points that are seen one by one
_drawing = Lock()  # matplotlib's settings are global


@lru_cache(maxsize=4)
def chart(history: History, end: datetime, hours: int, narrow: bool) -> bytes:
    """Draw the error, its share of the price, its lean and the number of prices over the last hours, as SVG.

    A line a version; a takeover to another version is a marked vertical line, one by another process with the
    same version a dotted one. `narrow` is for phones.
    """
    begin = end - timedelta(hours=hours)
    history = history.since(begin)
    known = [of[0].at for of in history.points.values()]
    known += [began(takeover) for takeover in history.takeovers if began(takeover) >= begin]
    begin = max(begin, min(known, default=begin) - timedelta(minutes=1))
    with _drawing, mpl.rc_context(_STYLE | {"font.size": 13 if narrow else 11}):
        figure = Figure(figsize=(5.2, 8.6) if narrow else (11, 7.6), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(4, 1, sharex=True, height_ratios=(3, 1.3, 1.3, 1.3))
        for axes, figure_of, title, form in zip(
            panels,
            ("mae", "mape", "bias", "count"),
            (
                "Average error of a price",
                "… as a share of the price set",
                "Lean: above 0 our prices are too high",
                "Prices set, in each window",
            ),
            (_DOLLARS, PercentFormatter(1, decimals=0), _DOLLARS, _COUNTS),
            strict=True,
        ):
            axes.set_title(title, loc="left", fontsize="medium", pad=20 if figure_of == "mae" else 5)
            axes.yaxis.set_major_formatter(form)
            axes.yaxis.set_major_locator(MaxNLocator(5 if figure_of == "mae" else 3))
            _draw_lines(axes, history, figure_of)
            if figure_of == "bias":
                axes.axhline(0, color="#5b6475", linewidth=0.8, zorder=1)
            else:
                axes.set_ylim(0, 1.1 * axes.dataLim.y1 if history.points else 1)
        top = panels[0]
        top.set_xlim(begin, end)  # type: ignore[arg-type]
        for axes in panels:
            _mark_takeovers(axes, history, begin, named=axes is top)
        locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=6 if narrow else 9)  # type: ignore[no-untyped-call]
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
        panels[-1].set_xlabel("time, UTC")
        if history.points:
            figure.legend(
                *top.get_legend_handles_labels(),
                loc="outside upper left",
                ncols=3,
                frameon=False,
                fontsize="small",
            )
        svg = BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return svg.getvalue()


def _draw_lines(axes: Axes, history: History, figure_of: str) -> None:
    versions = [version for version in history.points if version != ALL_VERSIONS]
    for version, points in history.points.items():
        together = version == ALL_VERSIONS
        if together and len(versions) < 2:
            continue  # the same line twice
        times, values = _with_gaps(points, figure_of)
        axes.plot(
            times,  # type: ignore[arg-type]
            values,
            color="#9aa3b2" if together else _COLOURS[versions.index(version) % len(_COLOURS)],
            linewidth=1 if together else 2,
            marker="o" if len(points) < _FEW and not together else None,
            markersize=3.5,
            label="all versions" if together else f"version {version}",
            gid=f"{figure_of}-{version}",
            zorder=2 if together else 3,
        )


def _with_gaps(points: Sequence[Point], figure_of: str) -> tuple[list[datetime], list[float]]:
    """The line breaks where for the length of a window no price was set."""
    times: list[datetime] = []
    values: list[float] = []
    for before, point in pairwise((None, *points)):
        if point is None:
            continue
        if before is not None and point.at - before.at > point.window:
            times.append(before.at + (point.at - before.at) / 2)
            values.append(float("nan"))
        times.append(point.at)
        values.append(getattr(point, figure_of))
    return times, values


def _mark_takeovers(axes: Axes, history: History, begin: datetime, named: bool) -> None:
    for before, takeover in pairwise((None, *history.takeovers)):
        if takeover is None or began(takeover) < begin:
            continue
        new = before is None or before.version != takeover.version
        axes.axvline(
            began(takeover),  # type: ignore[arg-type]
            color="#1d2433" if new else "#9aa3b2",
            linestyle="--" if new else ":",
            linewidth=1.2 if new else 1,
            zorder=2,
            gid=f"takeover-{takeover.generation}" if named else None,
        )
        if named and new:
            axes.annotate(
                f"version {takeover.version}",
                (began(takeover), 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize="small",
                fontweight="bold",
            )
