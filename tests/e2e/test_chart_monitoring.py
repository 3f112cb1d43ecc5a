"""The objects for Prometheus and Grafana, without a cluster."""

import json
from functools import cache
from typing import Any

import yaml

from tests.support.cluster.chart import CHART, chart_objects
from tests.support.prometheus.rules import RULES


@cache
def rendered(*parts: str, disabled_alert: str = "") -> dict[str, Any]:
    """The objects by kind, the last one of each, with these parts enabled."""
    values: dict[str, Any] = {part: {"enabled": True} for part in parts}
    if disabled_alert:
        values["prometheusRule"]["disabledAlerts"] = [disabled_alert]
    return {it["kind"]: it for it in yaml.safe_load_all(chart_objects(values)) if it}


def test_default_release_needs_no_other_crds() -> None:
    assert "monitoring.coreos.com" not in chart_objects()


def test_service_monitor_selects_the_metrics_service() -> None:
    objects = rendered("serviceMonitor")
    service, monitor, pods = objects["Service"], objects["ServiceMonitor"]["spec"], objects["Deployment"]["spec"]
    labels = pods["template"]["metadata"]["labels"]

    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == [it["name"] for it in service["spec"]["ports"]]
    assert monitor["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
    # No other Service of the release.
    assert not monitor["selector"]["matchLabels"].items() <= labels.items()


def test_pod_monitor_selects_the_pods() -> None:
    objects = rendered("podMonitor")
    monitor, template = objects["PodMonitor"]["spec"], objects["Deployment"]["spec"]["template"]
    ports = [port["name"] for port in template["spec"]["containers"][0]["ports"]]

    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= set(ports)
    assert "Service" not in objects


def test_objects_are_in_the_namespace_of_the_operator() -> None:
    values = {part: {"enabled": True} for part in ("serviceMonitor", "prometheusRule", "grafanaDashboard")}
    text = chart_objects({**values, "namespaceOverride": "blue"}, only=["metrics", "prometheusrule", "dashboard"])

    assert [it["metadata"]["namespace"] for it in yaml.safe_load_all(text) if it] == ["blue"] * 4


def test_prometheus_rule_contains_the_rule_file() -> None:
    assert rendered("prometheusRule")["PrometheusRule"]["spec"] == yaml.safe_load(RULES.read_text())


def test_only_the_disabled_alert_is_omitted() -> None:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    others = [rule for rule in group["rules"] if rule.get("alert") != "KeyturnThrottled"]
    spec = rendered("prometheusRule", disabled_alert="KeyturnThrottled")["PrometheusRule"]["spec"]

    assert spec["groups"][0]["rules"] == others


def test_schema_lists_the_alerts() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["prometheusRule"]["properties"]
    [group] = yaml.safe_load(RULES.read_text())["groups"]

    assert schema["disabledAlerts"]["items"]["enum"] == [rule["alert"] for rule in group["rules"] if "alert" in rule]
