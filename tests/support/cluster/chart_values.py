"""A few sets of values that together set every value of the chart, all of them valid for the API server."""

from typing import Any

import yaml

from tests.support.cluster.chart import CHART, Values

DIGEST = "sha256:" + "0" * 64
RELABELING = [{"action": "labeldrop", "regex": "dropped"}]


def _rule(port: int) -> dict[str, Any]:
    return {"ports": [{"port": port, "protocol": "TCP"}]}


def _monitor(kind: str, seconds: int) -> dict[str, Any]:
    return {
        "enabled": True,
        "namespace": f"{kind}-namespace",
        "additionalLabels": {"label-of": kind},
        "interval": f"{seconds}s",
        "scrapeTimeout": f"{seconds - 1}s",
        "relabelings": RELABELING,
        "metricRelabelings": RELABELING,
    }


RENDERINGS: dict[str, Values] = {
    "all": {
        "nameOverride": "other-name",
        "namespaceOverride": "other-namespace",
        "commonLabels": {"label-of": "everything"},
        "enabled": True,
        "global": {"imagePullSecrets": [{"name": "global-pull"}, "named-pull"], "of_another_chart": 1},
        "crds": {"annotations": {"annotation-of": "crd"}},
        "image": {"repository": "registry.test/keyturn", "digest": DIGEST, "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "own-pull"}],
        "replicaCount": 2,
        "strategy": {"type": "Recreate"},
        "leaseName": "own-lease",
        "issuanceKeySecret": "own-key",
        "podDisruptionBudget": {"enabled": True},
        "revisionHistoryLimit": 11,
        "terminationGracePeriodSeconds": 12,
        "concurrent": 13,
        "log": {"level": "debug", "format": "text"},
        "config": {"renewal": {"minIntervalSeconds": 3600}, "docs": {"troubleshootingUrl": "https://docs.test/"}},
        "proxy": {"existingSecret": "own-proxy", "noProxy": [".internal.test", "10.0.0.0/8"]},
        "extraArgs": ["--extra-argument"],
        "extraEnv": [{"name": "EXTRA_VARIABLE", "value": "1"}],
        "http": {"port": 7070},
        "metrics": {"service": {"port": 7071, "annotations": {"annotation-of": "service"}}},
        "serviceAccount": {
            "name": "own-account", "annotations": {"annotation-of": "account"}, "extraLabels": {"label-of": "account"},
            "automount": False,
        },
        "deploymentAnnotations": {"annotation-of": "deployment"},
        "podAnnotations": {"annotation-of": "pod"},
        "podLabels": {"label-of": "pod"},
        "podSecurityContext": {"fsGroup": 14},
        "securityContext": {"runAsUser": 15},
        "resources": {"limits": {"memory": "16Gi"}},
        "livenessProbe": {"periodSeconds": 17},
        "readinessProbe": {"periodSeconds": 18},
        "startupProbe": {"periodSeconds": 19},
        "hostNetwork": True,
        "dnsConfig": {"searches": ["search.test"]},
        "hostAliases": [{"ip": "10.0.0.7"}],
        "networkPolicy": {"enabled": True, "ingress": [_rule(20)], "egress": [_rule(21)]},
        "nodeSelector": {"selector-of": "node"},
        "tolerations": [{"key": "tolerated"}],
        "affinity": {"podAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 22, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "priorityClassName": "own-priority",
        "rbac": {"serviceAccountTokens": True, "serviceAccountTokenNames": ["named"]},
        "secrets": {"watch": False},
        "extraInitContainers": [{"name": "extra-init", "image": "extra"}],
        "extraContainers": [{"name": "extra-container", "image": "extra"}],
        "extraObjects": [
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-a}",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-b"}},
        ],
        "extraVolumes": [{"name": "extra-volume", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "extra-volume", "mountPath": "/extra-mount"}],
        "injection": {
            "enabled": True, "image": "sidecar.test/keyturn:1", "port": 7072,
            "resources": {"requests": {"cpu": 0.5}}, "namespaceSelector": {"matchLabels": {"inject": "here"}},
        },
        "serviceMonitor": _monitor("service-monitor", 23),
        "prometheusRule": {
            "enabled": True, "namespace": "rule-namespace", "additionalLabels": {"label-of": "rule"},
            "disabledAlerts": ["KeyturnExpired"],
        },
        "grafanaDashboard": {
            "enabled": True, "namespace": "dashboard-namespace", "sidecarLabel": "dashboard-label",
            "sidecarLabelValue": "dashboard-value", "annotations": {"grafana_folder": "dashboard-folder"},
            "extraLabels": {"label-of": "dashboard"},
        },
    },
    "restricted": {
        "fullnameOverride": "full-name",
        "crds": {"enabled": False},
        "image": {"tag": "own-tag"},
        "leaderElect": False,
        "watchNamespaces": ["billing", "other"],
        "serviceAccount": {"create": False},
        "livenessProbe": None,
        "readinessProbe": None,
        "topologySpreadConstraints": [],
        "global": {"priorityClassName": "global-priority"},
        "hostNetwork": True,
        "dnsPolicy": "Default",
        "networkPolicy": {"enabled": True},
        "podDisruptionBudget": {"enabled": True, "minAvailable": 1},
        "injection": {"enabled": True},
        "metrics": {"service": {"enabled": True}},
        "podMonitor": _monitor("pod-monitor", 31) | {"honorLabels": False},
        "grafanaDashboard": {"enabled": True},
    },
    "no rights": {
        "rbac": {"create": False},
        "crds": {"keep": False},
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": "50%"},
        "serviceMonitor": {"enabled": True, "honorLabels": False},
    },
    "no aggregation": {"rbac": {"aggregateToView": False, "aggregateToEdit": False, "aggregateToAdmin": False}},
}  # fmt: skip

# The files that people copy, one per kind of installation.
EXAMPLES: dict[str, Values] = {
    path.name: yaml.safe_load(path.read_text()) for path in sorted((CHART / "examples").glob("*.yaml"))
}

# Two installations in one cluster. Only one of them can own the CRD.
TWO_INSTANCES: tuple[Values, Values] = (
    {"watchNamespaces": ["billing"]},
    {"watchNamespaces": ["other"], "crds": {"enabled": False}},
)
