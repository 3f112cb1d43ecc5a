"""The panels and queries of the dashboard, and the names of the series that they use."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tests.support.cluster.chart import CHART
from tests.support.prometheus.rules import RULES

DASHBOARD = CHART / "files" / "dashboard.json"
_SERIES = re.compile(r"\b(?:(?:keyturn|process)_\w+|[a-z_]+:[a-z_]+:[a-z]+)\b")


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return content


def panels() -> list[dict[str, Any]]:
    """Read the panels without the rows that group them."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the title of each panel with each of its queries, variables replaced as Grafana does."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], re.sub(r"\$(\w+)", lambda match: variables[match[1]], target["expr"])


def series_in(expression: str) -> set[str]:
    """Find the names of Keyturn's series in a query or a rule."""
    return set(_SERIES.findall(expression))


def recorded_series() -> set[str]:
    """The names of the series that the recording rules create."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
