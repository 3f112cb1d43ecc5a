"""The dashboard as Grafana must find it; that its queries give data is tried by tests/e2e/test_alerts.py."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from keyturn.metrics import Metrics, Series
from tests.support.cluster.chart import chart_objects
from tests.support.dependencies import NOW
from tests.support.prometheus.dashboard import (
    DASHBOARD,
    RULES,
    dashboard,
    panels,
    queries,
    recorded_series,
    series_in,
)

VARIABLES = {"namespace": ".*", "name": ".*", "__rate_interval": "5m"}
# What was asked for, by the panels that show it.
ASKED = {
    "requests by state": "Requests by state",
    "time left as a heat map": "Time left until the expiry",
    "renewals": "Renewals",
    "lateness": "Lateness",
    "exchanges by code": "Exchanges by code",
    "throttling": "Throttled calls",
    "agenda": "Agenda",
    "memory": "Memory",
    "one request": "Conditions",
}


def exported() -> set[str]:
    """Name every series that an operator may export."""
    metrics, when = (
        Metrics(),
        dict.fromkeys(("issued", "renews", "expires", "source_expires", "source_warns"), NOW),
    )
    one = Series(namespace="a", name="b", conditions=(), failed_attempts=0, suspended=False, **when)
    metrics.export(lambda: [one], dict)
    metrics.leader.set(1)
    families = list(metrics.registry.collect())
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
    return {family.name + suffix for family in families for suffix in suffixes.get(family.type, ("",))}


def inside(node: Any, key: str) -> Iterator[Any]:
    """Find every value of a key, however deep."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and key in node:
        yield node[key]
    for child in children:
        yield from inside(child, key)


def test_panels_have_ids_and_titles_of_their_own() -> None:
    ids = [panel["id"] for panel in dashboard()["panels"]]
    titles = [panel["title"] for panel in dashboard()["panels"]]

    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)


def test_no_panel_lies_on_another_or_beside_the_grid() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(set(cells)) == len(cells)
    assert all(place["x"] + place["w"] <= 24 for place in places)


def test_data_come_from_the_source_that_the_user_chooses() -> None:
    assert {json.dumps(found) for found in inside(dashboard(), "datasource")} == {
        '{"type": "prometheus", "uid": "${datasource}"}'
    }


def test_a_panel_says_what_it_shows() -> None:
    assert [panel["title"] for panel in panels() if not panel["description"]] == []
    assert [panel["title"] for panel in panels() if not panel["targets"]] == []


def test_every_variable_is_defined() -> None:
    names = {variable["name"] for variable in dashboard()["templating"]["list"]}

    assert names == {"datasource", *VARIABLES} - {"__rate_interval"}
    assert list(queries(VARIABLES))  # a variable that is none of these raises KeyError


def test_queries_and_rules_read_what_there_is() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule["expr"] for group in groups for rule in group["rules"]]
    read = set(itertools.chain(*(series_in(text) for text in [*rules, *(expr for _, expr in queries(VARIABLES))])))

    assert read - exported() - recorded_series() == set()
    assert recorded_series() - read == set()


@pytest.mark.parametrize(("asked", "title"), ASKED.items(), ids=ASKED)
def test_what_was_asked_for_is_there(asked: str, title: str) -> None:
    assert title in {panel["title"] for panel in panels()}


def test_the_chart_ships_the_file_as_it_is() -> None:
    [shipped] = yaml.safe_load_all(chart_objects({"grafanaDashboard": {"enabled": True}}, only=["dashboard"]))

    assert shipped["data"]["keyturn.json"].strip() == DASHBOARD.read_text().strip()
    assert shipped["metadata"]["labels"]["grafana_dashboard"] == "1"
