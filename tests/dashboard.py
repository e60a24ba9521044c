"""The Grafana dashboard, as the tests read it."""

import json
import re
from importlib.resources import files
from typing import Any


def dashboard() -> dict[str, Any]:
    """The dashboard's file."""
    text = files("streaming_app").joinpath("dashboards/usedcars.json").read_text("utf-8")
    return dict(json.loads(text))


def queries() -> list[str]:
    """Every PromQL expression in it."""
    read = dashboard()
    return [
        *(target["expr"] for panel in read["panels"] for target in panel["targets"]),
        *(annotation["expr"] for annotation in read["annotations"]["list"]),
    ]


def queried_metrics(*prefixes: str) -> set[str]:
    """The metrics in its queries whose names begin so; all of them without a prefix."""
    found = {name for query in queries() for name in re.findall(r"\busedcars_\w+", query)}
    return {name for name in found if name.startswith(prefixes or "usedcars_")}
