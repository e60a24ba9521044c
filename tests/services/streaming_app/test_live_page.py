"""The manager's page of the live metrics process, in a real browser."""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import requests
from confluent_kafka import Producer
from playwright.sync_api import Browser, Page, expect, sync_playwright
from prometheus_client.parser import text_string_to_metric_families

from streaming_app.takeovers import Takeover
from tests.dashboard import queried_metrics

pytestmark = pytest.mark.services

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
PATIENCE_MS = 240_000
PREDICTED, TRUE = [10_000.0, 20_000.0, 30_000.0], [9_500.0, 20_700.0, 29_700.0]  # off by 500 on average


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = os.environ.get("USEDCARS_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program, "no Chromium: run 'make browser', or name its program in USEDCARS_TEST_BROWSER"
    with sync_playwright() as playwright:
        # As root, in a container, Chromium has no sandbox; it only sees pages of this test.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


def opened(browser: Browser, address: str, width: int = 1200) -> Page:
    """A page with all its pictures."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(address, timeout=PATIENCE_MS)
    return page


def write(room: Any, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": room.brokers})
    for value in values:
        producer.produce(topic, value)
    producer.flush()


def answer(request_id: str, price: float, version: str) -> bytes:
    fields = {"type": "price", "request_id": request_id, "price": price, "model_version": version}
    return json.dumps(fields).encode()


def takeover(generation: int, version: str, began_at: str) -> bytes:
    return Takeover(generation, f"host-{generation}", "price", version, began_at, "topic", {}, {}).record()


def fuel_distribution() -> dict[str, Any]:
    """Half of the training rows Gasoline, half Diesel."""
    bins = "SELECT array(CASE fuel WHEN 'Gasoline' THEN 0 WHEN 'Diesel' THEN 1 ELSE 2 END) AS bins"
    return {
        "statements": [
            "SELECT *, get_json_object(listing, '$.fuel_type') AS fuel FROM __THIS__",
            f"{bins} FROM __THIS__",
        ],
        "features": [
            {"name": "fuel_type", "labels": ["Gasoline", "Diesel", "other"], "counts": [500, 500, 0]}
        ],
    }


def cars(name: str, *fuels: str) -> list[dict[str, Any]]:
    return [
        {"type": "price_request", "request_id": f"{name}{n}", "listing": {"fuel_type": fuel}}
        for n, fuel in enumerate(fuels)
    ]


def test_a_manager_sees_the_error_the_takeovers_and_the_input_drift_in_a_browser(
    room: Any, browser: Browser, registry: Any
) -> None:
    model = f"drift-{uuid4().hex[:8]}"
    versions = [registry.register_distribution(model, fuel_distribution()) for _ in range(7)]
    assert versions[-1] == "7"
    process = room.start(
        "live_metrics",
        USEDCARS_LIVE_METRICS_WINDOW="1 day",
        USEDCARS_LIVE_METRICS_SLIDE="1 day",
        USEDCARS_REGISTERED_MODEL=model,
        USEDCARS_DRIFT_EVERY_SECONDS="2",
        USEDCARS_DRIFT_LEAST_REQUESTS="100",
    ).await_ready()
    address = f"http://127.0.0.1:{process.port}"
    page = opened(browser, address)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))

    page.reload()
    expect(page.locator("h1")).to_have_text("No prices have been set yet")

    write(room, room.predictions, *(answer(f"a{n}", price, "7") for n, price in enumerate(PREDICTED)))
    write(room, room.predictions, answer("b", 9_000.0, "6"))
    prices = [*((f"a{n}", price) for n, price in enumerate(TRUE)), ("b", 10_000.0)]
    now = datetime.now(UTC).isoformat()
    write(room, room.takeovers, takeover(1, "6", now), takeover(2, "7", now))
    expect(page.locator("#drift")).to_contain_text("Too few requests to tell (version 7, 0 requests)")
    room.send(*({"type": "price_set", "request_id": name, "price": price} for name, price in prices))

    # The page that is open renews itself.
    expect(page.locator("h1")).to_contain_text("off by $500 on average")
    expect(page.locator("#mae")).to_have_text("$500")
    expect(page.locator("#count")).to_have_text("3")
    expect(page.locator("#figures tr[data-version='6']")).to_contain_text("$1,000")
    expect(page.locator("#figures tr[data-version='7']")).to_contain_text("answers now")
    expect(page.locator("#takeovers li").first).to_contain_text("version 7 takes over from version 6")

    room.send(*cars("usual", *["Gasoline", "Diesel"] * 30))
    expect(page.locator("#drift")).to_contain_text("Too few requests to tell (version 7, 60 requests)")
    room.send(*cars("more", *["Gasoline", "Diesel"] * 30))
    expect(page.locator("#drift[data-level=steady]")).to_contain_text("(version 7, 120 requests)")
    room.send(*cars("new", *["Electric"] * 60), b"no request")
    expect(page.locator("#drift[data-level=alarm]")).to_contain_text("(version 7, 180 requests)")
    expect(page.locator("#features")).to_contain_text("other")
    assert 'usedcars_input_drift{feature="fuel_type",version="7"}' in process.metrics()
    reports = room.read(room.input_drift, 3)
    assert {"unknown", "steady", "alarm"} <= {report["level"] for report in reports}
    assert [f["bin"] for f in reports[-1]["features"]] == ["other"]
    assert "input_drift_alarm" in process.log()

    picture = opened(browser, address).locator("img")
    assert picture.evaluate("image => image.naturalWidth") > 0
    chart = opened(browser, picture.evaluate("image => image.currentSrc"))
    expect(chart.locator("#takeover-2")).to_have_count(1)
    expect(chart.locator("text", has_text="version 7").last).to_be_visible()

    phone = opened(browser, address, width=390)
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing beyond the edge"
    assert "chart-narrow.svg" in phone.locator("img").evaluate("image => image.currentSrc")

    assert not said, "the security policy and the console have nothing to complain of"
    assert all(url.startswith((address, "data:")) for url in asked), "nothing comes from elsewhere"
    answered = requests.get(address, timeout=5)
    assert "unsafe" not in answered.headers["Content-Security-Policy"]

    exposed = {family.name for family in text_string_to_metric_families(process.metrics())}
    queried = queried_metrics("usedcars_live_", "usedcars_input_")
    assert queried
    assert queried <= exposed, "every metric in the dashboard's queries is exposed"
    assert process.terminate() == 0
    assert "Traceback" not in process.log()
