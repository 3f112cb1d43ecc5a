"""Values that the chart refuses, and the notes that it prints, without a cluster."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cases import cases
from tests.support.cluster.chart import CHART, HelmError, Values, chart_objects, helm

# By the place of the error: the invalid value, and the error.
INVALID: dict[str, tuple[Any, str]] = {
    "/image/digest": ("latest", "'latest' does not match pattern"),
    "/log/level": ("loud", "value must be one of 'debug', 'info', 'warning', 'error'"),
    "/injection/port": (80, "minimum: got 80"),
    "/injection/namespaceSelector": ({"team": "blue"}, "additional properties 'team' not allowed"),
    "/config/aws/endpoints/sts": ("ftp://a", "'ftp://a' does not match pattern"),
    "/config/sources/ambient": ([{"namespaces": ["a"]}], "missing property 'roles'"),
    "/podDisruptionBudget/minAvailable": ("many", "'many' does not match pattern"),
    "/secrets/watch": ("no", "got string, want boolean"),
    "/dnsPolicy": ("Mine", "value must be one of"),
    "/prometheusRule/disabledAlerts": (["KeyturnGone"], "value must be one of"),
    "/config/docs/troubleshootingUrl": ("docs.test", "'docs.test' does not match pattern"),
    "/serviceMonitor/interval": ("often", "'often' does not match pattern"),
    "/rbac/create": (None, "missing property 'create'"),
    "/log": (None, "missing property 'log'"),
}


@cases("place", {place: place for place in INVALID})
def test_invalid_value_is_refused(place: str) -> None:
    value, error = INVALID[place]
    *parents, name = place.strip("/").split("/")
    values = {name: value}
    for parent in reversed(parents):
        values = {parent: values}
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema") as caught:
        chart_objects(values)

    at = place.rpartition("/")[0] if value is None else place
    assert re.search(rf"- at '{at}(/0)?': {re.escape(error)}", str(caught.value))


def test_unknown_values_are_refused() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def open_objects(node: dict[str, Any], path: str = "") -> Iterator[str]:
        if "properties" in node and node.get("additionalProperties") is not False:
            yield path
        for name, child in node.get("properties", {}).items():
            yield from open_objects(child, f"{path}/{name}")

    # Helm adds `global`, which other charts use too.
    assert [path for node in (schema, *schema["$defs"].values()) for path in open_objects(node)] == ["/global"]


CONFLICTS: dict[str, tuple[Values, str]] = {
    "no leader election": ({"replicaCount": 2, "leaderElect": False}, "replicaCount > 1 requires leaderElect"),
    "credentials in a ConfigMap": (
        {"config": {"issuers": {"allowedHosts": ["id.example"], "proxy": "http://user:password@proxy.example"}}},
        "config.issuers.proxy contains a user name or password, .*: use proxy.existingSecret",
    ),
    "two limits of a budget": (
        {"podDisruptionBudget": {"enabled": True, "minAvailable": 1, "maxUnavailable": 1}},
        "set either minAvailable or maxUnavailable, not both",
    ),
    "no image": (
        {"image": {"repository": ""}},
        "image.repository is empty, .* build the image with the Dockerfile, push it to a registry",
    ),
    "a proxy for issuers that may be anywhere": (
        {"config": {"issuers": {"proxy": "http://proxy.example"}}},
        "config.issuers.proxy requires config.issuers.allowedHosts",
    ),
    "ServiceAccounts without the right to create their tokens": (
        {"rbac": {"serviceAccountTokenNames": ["app"]}},
        "rbac.serviceAccountTokenNames has no effect without rbac.serviceAccountTokens=true",
    ),
    "two monitors": (
        {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
        "serviceMonitor and podMonitor cannot both be enabled",
    ),
}


@cases("values, message", CONFLICTS)
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
              "securityContext", "affinity", "networkPolicy", "proxy", "podDisruptionBudget", "global")  # fmt: skip
    nulls = dict.fromkeys((*names, *others, "podMonitor"))
    values = {**nulls, "crds": {"annotations": None}, **(sections if enabled else {})}

    # A dry run on the client cannot set the version of Kubernetes, which injection requires.
    assert "<nil>" not in notes({**values, "injection": None}) + chart_objects(values)


def test_lint_succeeds() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), values={})


def notes(values: Values) -> str:
    """NOTES.txt of a release with these values."""
    if os.environ.get("TEST_HELM") == "3":
        pytest.skip("Helm 3 needs a cluster for a dry run on the client")
    return helm("install", "keyturn", str(CHART), "--dry-run=client", values=values).partition("NOTES:")[2]


SCOPED = {"watchNamespaces": ["billing", "web"], "namespaceOverride": "blue", "secrets": {"watch": False}}
NOTES: dict[str, tuple[Values, str]] = {
    "image": ({"image": {"repository": "registry.test/keyturn"}}, "Image: registry.test/keyturn:0.1.0"),
    "hints": ({}, "serviceMonitor.enabled=true"),
    "namespaces": (SCOPED, "watches the namespaces billing, web"),
    "command": (SCOPED, "kubectl --namespace blue rollout status deployment/keyturn"),
    "second release": (SCOPED, "To install another release for other namespaces, set crds.enabled=false"),
    "no CRD": ({"crds": {"enabled": False}}, "does not install the CRD"),
    "CRD deleted by uninstall": ({"crds": {"keep": False}}, "deletes the CRD, all TokenRequests in the cluster"),
    "issuers without the proxy": (
        {"proxy": {"existingSecret": "a"}},
        "list their hosts in config.issuers.allowedHosts",
    ),
}


@cases("values, text", NOTES)
def test_notes_describe_the_release(values: Values, text: str) -> None:
    assert text in notes(values)


def test_notes_omit_hints_for_enabled_features() -> None:
    ambient = [{"namespaces": ["a"], "roles": ["*"]}]
    config = {"sources": {"ambient": ambient}, "issuers": {"allowedPrivateNetworks": ["10.0.0.0/8"]}}
    enabled: Values = {name: {"enabled": True} for name in ("podMonitor", "prometheusRule")}
    text = notes({"replicaCount": 2, "rbac": {"serviceAccountTokens": True}, "config": config, **enabled})
    features = ("serviceAccountTokens", "sources.ambient", "allowedPrivateNetworks", "standby", "Metrics", "Alerts")

    assert [feature for feature in features if feature in text] == []
