"""The manager's page: how far the prices are from those set later, by model version over time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, PackageLoader, StrictUndefined

from streaming_app.drift_watch import DriftReport
from streaming_app.health import Page
from streaming_app.live_history import History, Point, began
from streaming_app.live_metrics_query import ALL_VERSIONS

HOURS = (1, 6, 24)
"""The spans of time that can be chosen."""

_DEFAULT_HOURS = 6
_REFRESH_SECONDS = 10
_MOST_TAKEOVERS = 10
_MOST_FEATURES = 8
_CSS = files("streaming_app").joinpath("pages/live.css").read_bytes()
_template = Environment(
    loader=PackageLoader("streaming_app", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
).get_template("live.html")


def pages(
    history: Callable[[], History], drift: Callable[[], DriftReport | None]
) -> Mapping[str, Callable[[str], Page]]:
    """The page and what it shows, by path; each is made from the query string of its address."""

    def drawn(query: str, narrow: bool) -> Page:
        # Imported here: matplotlib takes a second of each start, and most starts are seen by nobody.
        from streaming_app.live_chart import chart

        now = datetime.now(UTC)
        # To ten seconds, so that one drawing does for all who look.
        end = now.replace(second=now.second // 10 * 10, microsecond=0) + timedelta(seconds=10)
        return Page(
            chart(history(), end, chosen_hours(query), narrow), "image/svg+xml", "style-src 'unsafe-inline'"
        )

    return {
        "/": lambda query: Page(
            live_page(history(), drift(), datetime.now(UTC), chosen_hours(query)).encode(),
            "text/html; charset=utf-8",
            "style-src 'self'; img-src 'self' data:",
        ),
        "/live.css": lambda query: Page(_CSS, "text/css"),
        "/chart.svg": lambda query: drawn(query, narrow=False),
        "/chart-narrow.svg": lambda query: drawn(query, narrow=True),
    }


def chosen_hours(query: str) -> int:
    """The span of time that an address asks for; six hours when it asks for none that is offered."""
    asked = parse_qs(query).get("hours", [""])[0]
    return next((hours for hours in HOURS if str(hours) == asked), _DEFAULT_HOURS)


def live_page(history: History, drift: DriftReport | None, now: datetime, hours: int) -> str:
    """Make the page from what has been published in the last hours, and the newest look at the drift."""
    recent = history.since(now - timedelta(hours=hours))
    newest = {version: points[-1] for version, points in recent.points.items()}
    shown = newest.get(history.in_service or "") or newest.get(ALL_VERSIONS)
    headline, explanation = _headline(history, shown, now, hours)
    return _template.render(
        headline=headline,
        explanation=explanation,
        trouble=history.trouble,
        shown=shown,
        tiles=[] if shown is None else _tiles(shown, _predecessor(history, newest, shown)),
        choices=HOURS,
        hours=hours,
        rows=[_row(point, history.in_service) for point in newest.values()],
        marks=_marks(recent, now - timedelta(hours=hours)),
        drift=None if drift is None else _drift(drift),
        now=f"{now:%H:%M:%S}",
        refresh_seconds=_REFRESH_SECONDS,
    )


@dataclass(frozen=True)
class _Tile:
    id: str
    name: str
    value: str
    note: str


def _headline(history: History, shown: Point | None, now: datetime, hours: int) -> tuple[str, str]:
    if shown is not None:
        answers = (
            "" if shown.version == history.in_service else "; the version that answers has no prices yet"
        )
        return (
            f"Our prices are off by {_usd(shown.mae)} on average ({shown.mape:.1%})",
            f"{_name(shown.version).capitalize()}, measured by the {shown.count:,} prices set in the "
            f"{_length(shown.window)} up to {_time(shown.at, now)} UTC{answers}.",
        )
    if history.points:
        last = max(points[-1].at for points in history.points.values())
        span = "hour" if hours == 1 else f"{hours} hours"
        return (
            f"No prices were set in the last {span}",
            f"The last figures are of {_time(last, now)} UTC: choose a longer span.",
        )
    return (
        "No prices have been set yet",
        "As soon as the price of a car that was asked for is set, the error of our answer shows here.",
    )


def _predecessor(history: History, newest: Mapping[str, Point], shown: Point) -> Point | None:
    """The newest figures of the version that answered before the one shown."""
    for takeover in reversed(history.takeovers):
        if takeover.version != shown.version:
            return newest.get(takeover.version)
    return None


def _tiles(shown: Point, before: Point | None) -> list[_Tile]:
    def beside(text: Callable[[Point], str]) -> str:
        return "" if before is None else f"{_name(before.version)}: {text(before)}"

    lean = "too high" if shown.bias > 0 else "too low"
    return [
        _Tile("mae", "average error", _usd(shown.mae), beside(lambda p: _usd(p.mae))),
        _Tile("mape", "of the price set", f"{shown.mape:.1%}", beside(lambda p: f"{p.mape:.1%}")),
        _Tile(
            "bias", f"lean: prices are {lean} by", _usd(abs(shown.bias)), beside(lambda p: _signed(p.bias))
        ),
        _Tile("count", "prices set", f"{shown.count:,}", beside(lambda p: f"{p.count:,}")),
    ]


def _row(point: Point, in_service: str | None) -> dict[str, Any]:
    return {
        "version": point.version,
        "name": _name(point.version),
        "in_service": point.version == in_service,
        "count": f"{point.count:,}",
        "mae": _usd(point.mae),
        "mape": f"{point.mape:.1%}",
        "bias": _signed(point.bias),
        "rmse": _usd(point.rmse),
        "coverage": "" if point.coverage is None else f"{point.coverage:.1%}",
        "at": f"{point.at:%H:%M:%S}",
    }


def _marks(recent: History, begin: datetime) -> list[dict[str, str]]:
    """The takeovers, the newest first."""
    marks = []
    for before, takeover in pairwise((None, *recent.takeovers)):
        if takeover is None or began(takeover) < begin:
            continue
        if before is not None and before.version == takeover.version:
            text = f"{takeover.instance} goes on with version {takeover.version}"
        else:
            former = "" if before is None else f" from version {before.version}"
            text = f"version {takeover.version} takes over{former}"
        marks.append({"at": takeover.began_at, "time": f"{began(takeover):%H:%M:%S}", "text": text})
    return marks[: -_MOST_TAKEOVERS - 1 : -1]


def _drift(report: DriftReport) -> dict[str, Any]:
    says = {
        "unknown": "Too few requests to tell",
        "steady": "The cars asked for are like those that the model was trained on",
        "warning": "The cars asked for begin to differ from those that the model was trained on",
        "alarm": "The cars asked for differ much from those that the model was trained on",
    }
    return {
        "level": report.level,
        "says": f"{says[report.level]} ({_name(report.model_version)}, {report.requests:,} requests)",
        "rows": []
        if report.level == "unknown"
        else [
            {
                "name": found.name.replace("_", " "),
                "index": f"{found.index:.2f}",
                "bin": found.bin,
                "trained": f"{found.trained_share:.1%}",
                "live": f"{found.live_share:.1%}",
            }
            for found in report.features[:_MOST_FEATURES]
        ],
    }


def _name(version: str) -> str:
    return "all versions" if version == ALL_VERSIONS else f"version {version}"


def _length(window: timedelta) -> str:
    minutes = round(window.total_seconds() / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"


def _time(at: datetime, now: datetime) -> str:
    return f"{at:%H:%M}" if at.date() == now.date() else f"{at:%d %B, %H:%M}"


def _usd(amount: float) -> str:
    return f"${amount:,.0f}"


def _signed(amount: float) -> str:
    return f"{'+' if amount > 0 else '-'}${abs(amount):,.0f}"
