"""The chart as a part of another chart: switched by a condition, and several times by aliases."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster.chart import HelmError, Values, chart_objects, parent_chart
from tests.support.cluster.chart_values import TWO_INSTANCES

_PARTS = ("injection", "networkPolicy", "podDisruptionBudget", "serviceMonitor", "prometheusRule", "grafanaDashboard")
EVERYTHING: Values = {name: {"enabled": True} for name in _PARTS} | {"config": {"renewal": {"minIntervalSeconds": 5}}}


def objects(text: str) -> list[dict[str, Any]]:
    return [body for body in yaml.safe_load_all(text) if body]


@pytest.mark.parametrize("enabled", [True, False])
def test_condition_switches_the_chart(tmp_path: Path, *, enabled: bool) -> None:
    values = {"keyturn": {"enabled": enabled}, "global": {"imageRegistry": "registry.test"}}
    rendered = objects(chart_objects(values, release="platform", chart=parent_chart(tmp_path, "keyturn")))

    assert [body["metadata"]["name"] for body in rendered if body["kind"] == "Deployment"] == [
        "platform-keyturn"
    ] * enabled


def test_unknown_value_of_a_subchart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HelmError, match="additional properties 'enable' not allowed"):
        chart_objects({"keyturn": {"enable": True}}, chart=parent_chart(tmp_path, "keyturn"))


@pytest.mark.parametrize(
    ("release", "aliases"),
    [
        ("platform", ("blue", "green")),
        pytest.param("blue-green", ("blue", "green"), id="a release name that contains both aliases"),
        pytest.param("platform", ("keyturn", "keyturn-eu"), id="the chart's own name and an alias"),
        pytest.param("keyturn-eu", ("keyturn", "eu"), id="a release name of both"),
        pytest.param("platform", ("keyturnBlue", "keyturn_green"), id="capitals and underscores"),
        pytest.param("p" * 53, ("keyturn-blue", "keyturn-blues"), id="a long release name"),
    ],
)
def test_aliases_share_no_object_and_select_no_pod_of_each_other(
    tmp_path: Path, release: str, aliases: tuple[str, str]
) -> None:
    values = {alias: {**each, **EVERYTHING} for alias, each in zip(aliases, TWO_INSTANCES, strict=True)}
    rendered = objects(chart_objects(values, release=release, chart=parent_chart(tmp_path, *aliases)))
    names = Counter((it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]) for it in rendered)
    pods = [it["spec"]["template"]["metadata"]["labels"] for it in rendered if it["kind"] == "Deployment"]

    assert len(pods) == 2
    assert [name for name, count in names.items() if count > 1] == []
    assert all(len(name) <= 63 for kind, _, name in names if kind == "Service")
    for body in rendered:
        for selector in selectors(body):
            assert sum(selector.items() <= labels.items() for labels in pods) <= 1, body
    # The Secrets and Leases that an operator may use are its own.
    granted = [
        rule["resourceNames"]
        for it in rendered
        if it["kind"] == "Role"
        for rule in it["rules"]
        if "resourceNames" in rule
    ]
    assert Counter(name for names in granted for name in names if name != "keyturn-scope").most_common(1)[0][1] == 1


def selectors(body: dict[str, Any]) -> list[dict[str, str]]:
    spec = body.get("spec", {})
    if body["kind"] == "Service":
        return [spec["selector"]]
    return [spec[key]["matchLabels"] for key in ("selector", "podSelector") if "matchLabels" in spec.get(key, {})]
