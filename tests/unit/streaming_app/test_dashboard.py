"""The Grafana dashboard, without Grafana.

That each metric of its queries is exposed is held by the tests of serving's and the live metrics' processes.
"""

from itertools import combinations

from tests.dashboard import dashboard, queried_metrics, queries


def test_every_metric_is_of_serving_or_of_the_live_metrics() -> None:
    of_both = queried_metrics(
        "usedcars_serving_",
        "usedcars_requests_",
        "usedcars_predictions_",
        "usedcars_live_",
        "usedcars_input_",
    )
    assert of_both == queried_metrics() != set()


def test_panels_do_not_overlap_and_ask_the_prometheus_that_the_viewer_chooses() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        for at in (panel["gridPos"] for panel in panels)
    ]
    assert not any(one & other for one, other in combinations(cells, 2))
    assert all(x < 24 for x, _ in set().union(*cells))
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert [variable["type"] for variable in dashboard()["templating"]["list"]] == ["datasource"]


def test_counters_are_shown_as_rates() -> None:
    for query in queries():
        assert query.count("_total") == query.count("_total[$__rate_interval]")
        assert query.count("_bucket") == query.count("_bucket[$__rate_interval]")
