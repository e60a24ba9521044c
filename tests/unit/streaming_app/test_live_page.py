"""The manager's page, made from a history."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from streaming_app.drift_watch import DriftReport
from streaming_app.input_drift import FeatureDrift
from streaming_app.live_chart import chart
from streaming_app.live_history import History, Point, began, read_point
from streaming_app.live_page import chosen_hours, live_page
from streaming_app.takeovers import Takeover

NOW = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)
WINDOW = timedelta(minutes=10)
SVG = "{http://www.w3.org/2000/svg}"


def point(version: str, minutes_ago: float, mae: float = 1_859.4, bias: float = -120) -> Point:
    at = NOW - timedelta(minutes=minutes_ago)
    return Point(version, at, 1_412, mae, 0.083, bias, 2_718, 0.897, WINDOW)


def takeover(generation: int, version: str, minutes_ago: float, instance: str = "one") -> Takeover:
    began_at = (NOW - timedelta(minutes=minutes_ago)).isoformat()
    return Takeover(generation, instance, "usedcars-price", version, began_at, "topic", {}, {})


TWO_VERSIONS = History(
    {
        "1": (point("1", 90, mae=2_040.6), point("1", 40, mae=2_040.6)),
        "2": (point("2", 20), point("2", 1)),
        "all": (point("all", 1, mae=1_900),),
    },
    (takeover(4, "1", 120), takeover(5, "1", 60, "two"), takeover(6, "2", 30)),
)


def test_the_headline_is_the_error_of_the_version_that_answers_beside_that_of_its_predecessor() -> None:
    page = live_page(TWO_VERSIONS, None, NOW, 6)
    assert "Our prices are off by $1,859 on average (8.3%)" in page
    assert "Version 2, measured by the 1,412 prices set in the 10 minutes up to 13:59 UTC." in page
    assert "version 1: $2,041" in page
    assert "prices are too low by" in page
    assert '<strong id="bias">$120</strong>' in page
    assert "<td>89.7%</td>" in page
    assert "refresh" in page


def test_a_version_that_answers_without_prices_yet_is_said_beside_the_figures_of_all() -> None:
    history = replace(TWO_VERSIONS, takeovers=(*TWO_VERSIONS.takeovers, takeover(7, "3", 0.5)))
    page = live_page(history, None, NOW, 6)
    assert "off by $1,900" in page
    assert "the version that answers has no prices yet" in page


def test_takeovers_are_listed_newest_first_and_told_from_a_process_that_goes_on() -> None:
    page = live_page(TWO_VERSIONS, None, NOW, 6)
    said = ["version 2 takes over from version 1", "two goes on with version 1", "version 1 takes over"]
    assert [page.index(text) for text in said] == sorted(page.index(text) for text in said)


def test_a_span_shows_its_own_figures_and_takeovers_only() -> None:
    page = live_page(TWO_VERSIONS, None, NOW, 1)
    assert "version 2 takes over from version 1" in page
    assert "version 1 takes over<" not in page


def test_without_any_price_the_page_says_so() -> None:
    page = live_page(History({}, ()), None, NOW, 6)
    assert "No prices have been set yet" in page
    assert "<table" not in page
    assert "<img" not in page


def test_without_prices_in_the_span_the_page_says_when_the_last_came() -> None:
    page = live_page(History({"1": (point("1", 300),)}, ()), None, NOW, 1)
    assert "No prices were set in the last hour" in page
    assert "The last figures are of 09:00 UTC" in page


def test_what_comes_from_topics_is_escaped() -> None:
    name = "<script>alert(1)</script> $x^{$"
    history = History(
        {name: (point(name, 1),)}, (takeover(1, name, 5), takeover(2, name, 3, name)), f"trouble {name}"
    )
    page = live_page(history, None, NOW, 6)
    assert "<script" not in page.lower()
    assert "&lt;script&gt;" in page
    assert "{$" in page
    assert b"<script" not in chart(history, NOW, 6, narrow=False)


def test_an_outage_of_kafka_is_said_above_the_figures_of_before() -> None:
    page = live_page(replace(TWO_VERSIONS, trouble="Kafka at x does not deliver: timed out"), None, NOW, 6)
    assert "Kafka at x does not deliver: timed out. What is shown is of the time before." in page
    assert "$1,859" in page


@pytest.mark.parametrize(
    ("query", "hours"), [("", 6), ("hours=1", 1), ("hours=24", 24), ("hours=7", 6), ("hours=%00&x", 6)]
)
def test_a_span_that_is_not_offered_is_six_hours(query: str, hours: int) -> None:
    assert chosen_hours(query) == hours


@pytest.mark.parametrize("narrow", [False, True])
def test_the_chart_has_a_line_a_version_and_a_mark_a_takeover(narrow: bool) -> None:
    svg = ElementTree.fromstring(chart(TWO_VERSIONS, NOW, 6, narrow))  # noqa: S314
    drawn = {element.get("id") for element in svg.iter(f"{SVG}g")}
    lines = {
        f"{figure}-{version}" for figure in ("mae", "mape", "bias", "count") for version in ("1", "2", "all")
    }
    assert lines <= drawn
    assert {"takeover-4", "takeover-5", "takeover-6"} <= drawn
    texts = [element.text for element in svg.iter(f"{SVG}text")]
    assert texts.count("version 2") == 2, "in the legend, and at the takeover"


def test_the_chart_of_nothing_can_be_drawn() -> None:
    assert chart(History({}, ()), NOW, 6, narrow=False).startswith(b"<?xml")


def test_a_point_is_read_from_a_record_and_anything_else_is_not() -> None:
    record = (
        b'{"window_start": "2026-11-21T13:50:00.000Z", "window_end": "2026-11-21T14:00:00.000Z", '
        b'"model_version": "3", "count": 2, "mae": 5.0, "rmse": 6.0, "mape": 0.1, "bias": -1, "r2": null, '
        b'"updated_at": "2026-11-21T13:58:00.000Z", "anything": "else"}'
    )
    read = read_point(record)
    assert read is not None
    known = Point("3", NOW - timedelta(minutes=2), 2, 5.0, 0.1, -1.0, 6.0, None, WINDOW)
    assert read[1] == known
    with_intervals = read_point(record.replace(b'"r2": null', b'"interval_coverage": 0.5'))
    assert with_intervals is not None
    assert with_intervals[1] == replace(known, coverage=0.5)
    for other in (None, b"", b"?", b"[]", b"{}", record.replace(b"5.0", b"null")):
        assert read_point(other) is None


def test_the_span_keeps_the_takeover_before_it() -> None:
    recent = TWO_VERSIONS.since(NOW - timedelta(minutes=45))
    assert [began(t) for t in recent.takeovers] == [NOW - timedelta(minutes=m) for m in (60, 30)]


def test_the_features_that_have_moved_most_are_shown_with_what_moved() -> None:
    moved = FeatureDrift("fuel_type", 0.41, "Electric <b>", 0.02, 0.3)
    report = DriftReport("7", "2026-01-01T10:00:00.000Z", "2026-01-01T10:10:00.000Z", 4321, "alarm", (moved,))
    page = live_page(TWO_VERSIONS, report, NOW, 6)
    assert "differ much from those that the model was trained on (version 7, 4,321 requests)" in page
    assert 'data-level="alarm"' in page
    for text in ("fuel type", "0.41", "Electric &lt;b&gt;", "2.0%", "30.0%"):
        assert text in page


def test_of_too_few_requests_no_drift_is_told() -> None:
    moved = FeatureDrift("fuel_type", 0.41, "Electric", 0.02, 0.3)
    report = DriftReport("7", "2026-01-01T10:00:00.000Z", "2026-01-01T10:10:00.000Z", 3, "unknown", (moved,))
    page = live_page(TWO_VERSIONS, report, NOW, 6)
    assert "Too few requests to tell" in page
    assert "0.41" not in page
