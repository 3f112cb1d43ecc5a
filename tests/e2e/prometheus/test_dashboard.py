"""The dashboard as Grafana reads it. tests/e2e/test_alerts.py runs its queries."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from keyturn.metrics import Metrics, Series
from tests.support import npm
from tests.support.cluster.chart import chart_objects
from tests.support.dependencies import NOW
from tests.support.grafana import type_errors
from tests.support.prometheus.dashboard import DASHBOARD, dashboard, panels, queries, recorded_series, series_in
from tests.support.prometheus.rules import RULES

VARIABLES = {"cluster": ".*", "namespace": ".*", "name": ".*", "__rate_interval": "5m"}


async def exported_series() -> set[str]:
    """The names of all series that an operator may export."""
    metrics = Metrics()
    times = dict.fromkeys(("issued", "renews", "expires", "source_expires", "source_warns"), NOW)
    request = Series(
        namespace="a", name="b", conditions=(("Ready", "True", "Renewed"),), failed_attempts=0, suspended=False, **times
    )
    metrics.export(lambda: [request], lambda: {"ready": 1})
    for gauge in (metrics.leader, metrics.scope_conflict, metrics.unsaved_tokens):
        gauge.set(1)
    text = b"".join((await metrics.exposition()).parts()).decode()
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    families = text_string_to_metric_families(text)
    return {family.name + suffix for family in families for suffix in suffixes.get(family.type, ("",))}


def values_of(node: Any, key: str) -> Iterator[Any]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and key in node:
        yield node[key]
    for child in children:
        yield from values_of(child, key)


def test_panels_have_unique_ids_and_titles() -> None:
    for key in ("id", "title"):
        values = [panel[key] for panel in dashboard()["panels"]]
        assert len(set(values)) == len(values)


def test_panels_do_not_overlap() -> None:
    positions = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [
        (x, y)
        for position in positions
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]

    assert len(set(cells)) == len(cells)
    assert all(position["x"] + position["w"] <= 24 for position in positions)


@pytest.mark.skipif(bool(npm.missing()), reason=npm.missing())
def test_dashboard_has_the_types_of_grafana(tmp_path: Path) -> None:
    text = DASHBOARD.read_text()
    for name, content in {"valid": text, "invalid": text.replace('"showHeader"', '"showHeaders"', 1)}.items():
        (tmp_path / name).mkdir()
        errors = type_errors(content, tmp_path / name)
        assert ("showHeaders" in errors) if name == "invalid" else errors == ""


def test_first_row_lists_what_needs_attention_with_links() -> None:
    first, *others = sorted(panels(), key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))

    assert (first["title"], others[0]["title"]) == ("Needs attention", "Alerts")
    assert all("Show this TokenRequest" in json.dumps(panel["fieldConfig"]) for panel in (first, others[0]))


def test_queries_use_the_selected_data_source() -> None:
    assert {json.dumps(source) for source in values_of(dashboard(), "datasource")} == {
        '{"type": "prometheus", "uid": "${datasource}"}'
    }


def test_panels_have_a_description_and_queries() -> None:
    assert [panel["title"] for panel in panels() if not (panel["description"] and panel["targets"])] == []


def test_variables_are_defined() -> None:
    names = {variable["name"] for variable in dashboard()["templating"]["list"]}

    assert names == {"datasource", *VARIABLES} - {"__rate_interval"}
    assert list(queries(VARIABLES))  # an undefined variable raises KeyError


async def test_queries_and_rules_use_existing_series() -> None:
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    used = set(itertools.chain(*(series_in(text) for text in [*rules, *(expr for _, expr in queries(VARIABLES))])))

    assert used - await exported_series() - recorded_series() == set()
    assert recorded_series() - used == set()


def test_queries_select_the_cluster() -> None:
    queried = [(target["expr"], panel["title"]) for panel in panels() for target in panel["targets"]]

    assert [title for text, title in queried if len(series_in(text)) != text.count('{cluster=~"$cluster"')] == [
        "Alerts",
        "Firing alerts",
    ]
    # Series are joined by the labels of their target: pods of two clusters may have the same address.
    ignored = r"\bon ?\(|\bignoring ?\([^)]*\b(cluster|instance|namespace|name|pod)\b"
    assert [title for text, title in queried if re.search(ignored, text)] == []


def test_chart_ships_the_dashboard_unchanged() -> None:
    [config_map] = yaml.safe_load_all(chart_objects({"grafanaDashboard": {"enabled": True}}, only=["dashboard"]))

    assert config_map["data"]["keyturn.json"].strip() == DASHBOARD.read_text().strip()
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
