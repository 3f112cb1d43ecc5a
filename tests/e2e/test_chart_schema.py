"""Values that the chart refuses, and the notes that it prints, without a cluster."""

import json
import re
from functools import cache

import pytest
import yaml

from tests.support.cluster.chart import CHART, HelmError, Values, chart_objects, helm

INVALID: Values = {
    "replicas": 1,
    "image": {"name": "a", "digest": "latest", "repository": None},
    "crds": {"install": True},
    "http": {"host": "a", "port": None},
    "serviceAccount": {"labels": {}},
    "log": {"level": "loud"},
    "injection": {"webhook": True, "port": 80, "namespaceSelector": {"team": "blue"}},
    "config": {
        "large": 1000000,
        "aws": {"endpoint": "http://a", "endpoints": {"sts": "ftp://a"}},
        "sources": {"ambient": [{"namespaces": ["a"]}]},
    },
    "podDisruptionBudget": {"minAvailable": "many"},
    "networkPolicy": {"rules": []},
    "secrets": {"watch": "no"},
    "dnsPolicy": "Mine",
    "livenessProbe": {"httpGet": {"path": "/"}},
    "startupProbe": {"exec": {}},
    "rbac": {"create": None},
    "prometheusRule": {"disabledAlerts": ["KeyturnGone"], "runbookUrl": "docs.test"},
    "serviceMonitor": {"interval": "often"},
    "podMonitor": {"labels": {}},
    "grafanaDashboard": {"folder": "a"},
    "metrics": {"service": {"type": "NodePort"}},
}


@cache
def error(*values: str) -> str:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema") as caught:
        chart_objects(json.loads(values[0]))
    return str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "'': additional properties 'replicas' not allowed",
        "'/image': additional properties 'name' not allowed",
        "'/image/digest': 'latest' does not match pattern",
        "'/image': missing property 'repository'",
        "'/crds': additional properties 'install' not allowed",
        "'/http': additional properties 'host' not allowed",
        "'/http': missing property 'port'",
        "'/serviceAccount': additional properties 'labels' not allowed",
        "'/log/level': value must be one of 'debug', 'info', 'warning', 'error'",
        "'/injection': additional properties 'webhook' not allowed",
        "'/injection/port': minimum: got 80",
        "'/injection/namespaceSelector': additional properties 'team' not allowed",
        "'/config': additional properties 'large' not allowed",
        "'/config/aws': additional properties 'endpoint' not allowed",
        "'/config/aws/endpoints/sts': 'ftp://a' does not match pattern",
        "'/config/sources/ambient/0': missing property 'roles'",
        "'/podDisruptionBudget/minAvailable': 'many' does not match pattern",
        "'/networkPolicy': additional properties 'rules' not allowed",
        "'/secrets/watch': got string, want boolean",
        "'/dnsPolicy': value must be one of",
        "'/livenessProbe': additional properties 'httpGet' not allowed",
        "'/startupProbe': additional properties 'exec' not allowed",
        "'/rbac': missing property 'create'",
        "'/prometheusRule/disabledAlerts/0': value must be one of",
        "'/prometheusRule/runbookUrl': 'docs.test' does not match pattern",
        "'/serviceMonitor/interval': 'often' does not match pattern",
        "'/podMonitor': additional properties 'labels' not allowed",
        "'/grafanaDashboard': additional properties 'folder' not allowed",
        "'/metrics/service': additional properties 'type' not allowed",
    ],
)
def test_invalid_value_is_refused(line: str) -> None:
    assert f"- at {line}" in error(json.dumps(INVALID))


@pytest.mark.parametrize(
    ("values", "line"),
    [({"log": None}, "'': missing property 'log'"), ({"log": {"level": None}}, "'/log': missing property 'level'")],
    ids=repr,
)
def test_required_value_cannot_be_null(values: Values, line: str) -> None:
    assert f"- at {line}" in error(json.dumps(values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(
            {"replicaCount": 2, "leaderElect": False}, "replicaCount > 1 requires leaderElect", id="no leader election"
        ),
        pytest.param(
            {"podDisruptionBudget": {"enabled": True, "minAvailable": 1, "maxUnavailable": 1}},
            "set either minAvailable or maxUnavailable, not both",
            id="two limits of a budget",
        ),
        pytest.param(
            {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
            "serviceMonitor and podMonitor cannot both be enabled",
            id="two monitors",
        ),
    ],
)
def test_conflicting_values_are_refused(values: Values, message: str) -> None:
    with pytest.raises(HelmError, match=message):
        chart_objects(values)


@pytest.mark.parametrize("enabled", [True, False])
def test_optional_values_can_be_null(*, enabled: bool) -> None:
    names = ("serviceMonitor", "prometheusRule", "grafanaDashboard", "injection")
    optional = ("additionalLabels", "extraLabels", "annotations", "namespaceSelector", "relabelings")
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    sections: Values = {
        name: {"enabled": True} | {key: None for key in optional if key in schema[name]["properties"]} for name in names
    }
    others = ("imagePullSecrets", "config", "podAnnotations", "commonLabels", "extraArgs", "extraEnv", "resources",
              "securityContext", "affinity", "networkPolicy", "podDisruptionBudget", "global")  # fmt: skip
    nulls = dict.fromkeys((*names, *others, "podMonitor"))
    values = {**nulls, "crds": {"annotations": None}, **(sections if enabled else {})}

    assert "<nil>" not in notes(json.dumps(values)) + chart_objects(values)


def test_lint_succeeds() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_default_resources_cover_the_measured_memory() -> None:
    document = (CHART.parents[1] / "docs" / "design" / "performance.md").read_text()
    peaks = [int(peak) for peak in re.findall(r"\| restart with [^|]*\|[^|]*\b([0-9]+) MiB", document)]
    resources = yaml.safe_load((CHART / "values.yaml").read_text())["resources"]
    requested, limit = (int(resources[kind]["memory"].removesuffix("Mi")) for kind in ("requests", "limits"))

    assert len(peaks) == 2
    assert peaks[0] < requested
    assert 2 * peaks[1] < limit


@cache
def notes(values: str) -> str:
    """NOTES.txt of a release with these values, as JSON."""
    return helm("install", "keyturn", str(CHART), "--dry-run=client", values=json.loads(values)).partition("NOTES:")[2]


SCOPED = {"watchNamespaces": ["billing", "web"], "namespaceOverride": "blue", "secrets": {"watch": False}}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "watches all namespaces"),
        ({}, "rbac.serviceAccountTokens=true"),
        ({}, "config.sources.ambient"),
        ({}, "Uninstalling keeps the CRD"),
        ({}, "serviceMonitor.enabled=true"),
        ({}, "Alerts: set prometheusRule.enabled=true"),
        (SCOPED, "watches the namespaces billing, web"),
        (SCOPED, "kubectl --namespace blue rollout status deployment/keyturn"),
        (SCOPED, "To install another release for other namespaces, set crds.enabled=false"),
        (SCOPED, "Secrets are not watched"),
        ({"crds": {"enabled": False}}, "does not install the CRD"),
        ({"crds": {"keep": False}}, "deletes the CRD, all TokenRequests in the cluster"),
        ({"injection": {"enabled": True}}, "Injection is OFF: this cluster does not serve MutatingAdmissionPolicy"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_notes_describe_the_release(values: Values, text: str) -> None:
    assert text in notes(json.dumps(values))


def test_notes_omit_hints_for_enabled_features() -> None:
    ambient = [{"namespaces": ["a"], "roles": ["*"]}]
    config = {"sources": {"ambient": ambient}, "issuers": {"allowedPrivateNetworks": ["10.0.0.0/8"]}}
    enabled: Values = {name: {"enabled": True} for name in ("podMonitor", "prometheusRule")}
    text = notes(json.dumps({"replicaCount": 2, "rbac": {"serviceAccountTokens": True}, "config": config, **enabled}))
    features = ("serviceAccountTokens", "sources.ambient", "allowedPrivateNetworks", "standby", "Metrics", "Alerts")

    assert [feature for feature in features if feature in text] == []
