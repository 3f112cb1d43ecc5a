"""What the chart gives to Prometheus and Grafana, without a cluster."""

import json
from typing import Any

import pytest
import yaml

from tests.support.cluster.chart import CHART, HelmError, Values, chart_objects
from tests.support.prometheus.dashboard import RULES

BLUE = {"team": "blue"}
RELABEL = [{"action": "labeldrop", "regex": "blue"}]
Table = list[tuple[Values, str]]


def _on(part: str, **values: Any) -> Values:
    return {part: {"enabled": True, **values}}


def _monitor(part: str) -> Table:
    """What either monitor does with its values, which are the same."""
    return [
        (_on(part), f"kind: {part[0].upper()}{part[1:]}"),
        (_on(part, namespace="blue"), "namespace: blue"),
        (_on(part, additionalLabels=BLUE), "team: blue"),
        (_on(part, interval="7s"), "interval: 7s"),
        (_on(part, scrapeTimeout="7s"), "scrapeTimeout: 7s"),
        (_on(part), "honorLabels: true"),
        (_on(part, honorLabels=False), "honorLabels: false"),
        (_on(part, relabelings=RELABEL), "relabelings:\n      - action: labeldrop\n        regex: blue"),
        (
            _on(part, metricRelabelings=RELABEL),
            "metricRelabelings:\n      - action: labeldrop\n        regex: blue",
        ),
    ]


MONITORING: Table = [
    ({"metrics": {"service": {"enabled": True}}}, "name: keyturn-metrics"),
    ({"metrics": {"service": {"enabled": True, "port": 7070}}}, "port: 7070\n      targetPort: http"),
    ({"metrics": {"service": {"enabled": True, "annotations": BLUE}}}, "team: blue"),
    *_monitor("serviceMonitor"),
    *_monitor("podMonitor"),
    (_on("prometheusRule"), "kind: PrometheusRule"),
    (_on("prometheusRule", namespace="blue"), "namespace: blue"),
    (_on("prometheusRule", additionalLabels=BLUE), "team: blue"),
    (_on("prometheusRule", disabledAlerts=["KeyturnExpired"]), "alert: KeyturnExpiring"),
    (
        _on("prometheusRule", runbookUrl="https://docs.test/"),
        "https://docs.test/docs/troubleshooting.md#keyturnexpired",
    ),
    (_on("grafanaDashboard"), 'grafana_dashboard: "1"'),
    (_on("grafanaDashboard", namespace="blue"), "namespace: blue"),
    (_on("grafanaDashboard", sidecarLabel="blue"), 'blue: "1"'),
    (_on("grafanaDashboard", sidecarLabelValue="blue"), "grafana_dashboard: blue"),
    (_on("grafanaDashboard", annotations={"grafana_folder": "blue"}), "grafana_folder: blue"),
    (_on("grafanaDashboard", extraLabels=BLUE), "team: blue"),
]


def rendered(values: Values) -> dict[str, Any]:
    """Render a release by kind; the last of a kind counts."""
    return {it["kind"]: it for it in yaml.safe_load_all(chart_objects(values)) if it}


@pytest.mark.parametrize(("values", "text"), MONITORING, ids=map(repr, MONITORING))
def test_value_adds(values: Values, text: str) -> None:
    assert text in chart_objects(values)
    assert text not in chart_objects()


def test_by_default_there_is_nothing_that_needs_other_crds() -> None:
    assert "monitoring.coreos.com" not in chart_objects()


def test_the_service_monitor_selects_the_service_and_the_service_the_pods() -> None:
    objects = rendered(_on("serviceMonitor"))
    service, monitor, pods = objects["Service"], objects["ServiceMonitor"]["spec"], objects["Deployment"]["spec"]
    labels = pods["template"]["metadata"]["labels"]

    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == [it["name"] for it in service["spec"]["ports"]]
    assert monitor["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
    # No Service of the release but this one.
    assert not monitor["selector"]["matchLabels"].items() <= labels.items()


def test_the_pod_monitor_selects_the_pods() -> None:
    objects = rendered(_on("podMonitor"))
    monitor, template = objects["PodMonitor"]["spec"], objects["Deployment"]["spec"]["template"]
    ports = [port["name"] for port in template["spec"]["containers"][0]["ports"]]

    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= set(ports)
    assert "Service" not in objects


def test_all_of_it_goes_where_the_operator_goes() -> None:
    parts = ("serviceMonitor", "prometheusRule", "grafanaDashboard")
    values = {part: {"enabled": True} for part in parts}
    text = chart_objects({**values, "namespaceOverride": "blue"}, only=["metrics", "prometheusrule", "dashboard"])
    objects = [it for it in yaml.safe_load_all(text) if it]

    assert {it["metadata"]["namespace"] for it in objects} == {"blue"}
    assert len(objects) == 4


def test_two_monitors_are_refused() -> None:
    with pytest.raises(HelmError, match="scrape everything twice"):
        chart_objects({**_on("serviceMonitor"), **_on("podMonitor")})


def test_the_rules_are_those_of_the_file() -> None:
    assert rendered(_on("prometheusRule"))["PrometheusRule"]["spec"] == yaml.safe_load(RULES.read_text())


def test_a_disabled_alert_is_left_out_and_no_other() -> None:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    left = [rule for rule in group["rules"] if rule.get("alert") != "KeyturnThrottled"]
    [shipped] = rendered(_on("prometheusRule", disabledAlerts=["KeyturnThrottled"]))["PrometheusRule"]["spec"]["groups"]

    assert shipped["rules"] == left


def test_the_schema_knows_the_alerts() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["prometheusRule"]["properties"]
    [group] = yaml.safe_load(RULES.read_text())["groups"]

    assert schema["disabledAlerts"]["items"]["enum"] == [it["alert"] for it in group["rules"] if "alert" in it]


@pytest.mark.parametrize(
    "values",
    [
        _on("prometheusRule", disabledAlerts=["KeyturnGone"]),
        _on("prometheusRule", runbookUrl="docs.test"),
        _on("serviceMonitor", interval="often"),
        _on("podMonitor", labels={}),
        _on("grafanaDashboard", folder="a"),
        {"metrics": {"service": {"type": "NodePort"}}},
    ],
    ids=repr,
)
def test_unknown_value_is_refused(values: Values) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        chart_objects(values)
