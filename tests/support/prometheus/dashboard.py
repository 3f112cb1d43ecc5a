"""The dashboard's panels and queries, and the series that they read."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tests.support.cluster.chart import CHART

DASHBOARD = CHART / "files" / "dashboard.json"
RULES = CHART / "files" / "rules.yaml"
_SERIES = re.compile(r"\b(?:(?:keyturn|process)_\w+|[a-z_]+:[a-z_]+:[a-z]+)\b")


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def panels() -> list[dict[str, Any]]:
    """Return the panels without the rows that group them."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the title of each panel with each of its queries, and replace the variables as Grafana does."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], replace_variables(target["expr"], variables)


def replace_variables(text: str, variables: Mapping[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda match: variables[match[1]], text)


def series_in(expression: str) -> set[str]:
    """Return the names of Keyturn's series in a query or a rule."""
    return set(_SERIES.findall(expression))


def recorded_series() -> set[str]:
    """Return the names of the series that the recording rules create."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
