"""The effect of each value of the chart, without a cluster, in a few renderings that contain all values."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster.chart import CHART, NEWEST, RIGHTS, HelmError, Values, chart_objects, helm
from tests.support.cluster.chart_values import DIGEST, RENDERINGS
from tools.reference.chart import values as documented_values

CRD = Path(__file__).parents[2] / "crds" / "keyturn.dev_tokenrequests.yaml"
# Which set of values adds which text, and which removes it.
ADDED: dict[str, list[str]] = {
    "all": [
        "app.kubernetes.io/name: other-name", "namespace: other-namespace", "label-of: everything",
        "- name: own-pull\n      - name: global-pull\n      - name: named-pull",
        "annotation-of: crd", f'image: "registry.test/keyturn@{DIGEST}"',
        "imagePullPolicy: Always", "replicas: 2", "type: Recreate", "--lease-name=own-lease",
        "resourceNames: [own-lease]", "--issuance-key-secret=own-key", "resourceNames: [own-key]",
        "  maxUnavailable: 1\n", "revisionHistoryLimit: 11",
        "terminationGracePeriodSeconds: 12", "--concurrent=13", "--log-level=debug", "--log-format=text",
        "    renewal:\n      minIntervalSeconds: 3600", "--config=/etc/keyturn/config.yaml",
        "checksum/config: ", "- --extra-argument", "- name: EXTRA_VARIABLE",
        "key: HTTPS_PROXY\n                  name: own-proxy\n                  optional: false",
        "key: HTTP_PROXY\n                  name: own-proxy\n                  optional: true",
        "name: NO_PROXY\n              value: $(KUBERNETES_SERVICE_HOST),169.254.169.254,.internal.test,10.0.0.0/8",
        "--http-bind-address=:7070", "containerPort: 7070", "port: 7071\n      targetPort: http",
        "annotation-of: service", "serviceAccountName: own-account", "annotation-of: account", "label-of: account",
        "automountServiceAccountToken: false", "annotations:\n    annotation-of: deployment", "annotation-of: pod",
        "label-of: pod", "fsGroup: 14", "runAsUser: 15", "memory: 16Gi", "periodSeconds: 17", "periodSeconds: 18",
        "startupProbe:\n            httpGet: {path: /readyz, port: http}\n            periodSeconds: 19",
        "hostNetwork: true", "dnsPolicy: ClusterFirstWithHostNet",
        "dnsConfig:\n        searches:\n        - search.test",
        "hostAliases:\n      - ip: 10.0.0.7",
        "port: 20\n        protocol: TCP\n  egress:\n    - ports:\n      - port: 21",
        "nodeSelector:\n        selector-of: node", "tolerations:\n      - key: tolerated",
        "affinity:\n        podAffinity", "maxSkew: 22\n        topologyKey: zone", "priorityClassName: own-priority",
        'resources: [serviceaccounts/token]\n    resourceNames: ["named"]', "--no-watch-secrets",
        "verbs: [get, create, patch, delete]", "initContainers:\n        - image: extra",
        "- image: extra\n          name: extra-container\n      volumes", "metadata: {name: keyturn-a}",
        "name: 'keyturn-b'", "- emptyDir: {}\n          name: extra-volume", "- mountPath: /extra-mount",
        "kind: MutatingAdmissionPolicy", '"image": dyn("sidecar.test/keyturn:1")', '"--listen=127.0.0.1:7072"',
        '"port": dyn(7073)', '"http://127.0.0.1:7072/"', '"cpu": dyn(0.5)',
        "namespaceSelector:\n      matchLabels:\n        inject: here", "kind: ServiceMonitor",
        "namespace: service-monitor-namespace", "label-of: service-monitor", "interval: 23s", "scrapeTimeout: 22s",
        "honorLabels: true", "\n      relabelings:\n      - action: labeldrop\n        regex: dropped",
        "metricRelabelings:\n      - action: labeldrop\n        regex: dropped", "kind: PrometheusRule",
        "namespace: rule-namespace", "label-of: rule", "alert: KeyturnExpiring",
        "https://docs.test/#keyturnexpiring", "namespace: dashboard-namespace",
        "dashboard-label: dashboard-value", "grafana_folder: dashboard-folder", "label-of: dashboard",
    ],
    "restricted": [
        "name: full-name\n", 'image: "keyturn:own-tag"', "--no-leader-elect", "type: Recreate",
        "--watch-namespace=billing\n            - --watch-namespace=other", "serviceAccountName: default",
        "priorityClassName: global-priority", "dnsPolicy: Default", "- port: http\n        protocol: TCP\n  egress:",
        "port: 6443", "  minAvailable: 1\n", '"image": dyn("keyturn-sidecar:own-tag")',
        "- key: kubernetes.io/metadata.name\n        operator: In\n        values:\n        - billing",
        "name: full-name-metrics", "kind: PodMonitor", "namespace: pod-monitor-namespace", "label-of: pod-monitor",
        "interval: 31s", "scrapeTimeout: 30s", "honorLabels: false",
        "\n      relabelings:\n      - action: labeldrop\n        regex: dropped",
        "metricRelabelings:\n      - action: labeldrop\n        regex: dropped", 'grafana_dashboard: "1"',
    ],
    "no rights": ["  maxUnavailable: 50%\n", "honorLabels: false"],
}  # fmt: skip
REMOVED: dict[str, list[str]] = {
    "restricted": [
        "kind: CustomResourceDefinition", "-lease\n", "kind: ServiceAccount\nmetadata:",
        "topologySpreadConstraints", "{path: /healthz, port: http}", "{path: /readyz, port: http}", "kind: ClusterRole",
    ],
    "no rights": ["helm.sh/resource-policy: keep", "rbac.authorization.k8s.io"],
    "no aggregation": [f"rbac.authorization.k8s.io/aggregate-to-{role}" for role in ("view", "edit", "admin")],
}  # fmt: skip


@cache
def rendered(name: str) -> str:
    return chart_objects(RENDERINGS[name])


@cache
def default() -> str:
    return chart_objects()


def _cases(table: dict[str, list[str]]) -> list[Any]:
    return [pytest.param(name, text, id=f"{name}: {text!r}") for name, texts in table.items() for text in texts]


@pytest.mark.parametrize(("rendering", "text"), _cases(ADDED))
def test_value_adds(rendering: str, text: str) -> None:
    assert text in rendered(rendering)
    assert text not in default()


@pytest.mark.parametrize(("rendering", "text"), _cases(REMOVED))
def test_value_removes(rendering: str, text: str) -> None:
    assert text not in rendered(rendering)
    assert text in default()


def leaves(properties: Any, prefix: str = "") -> Iterator[str]:
    """The paths of the values in a schema, without the fields of Kubernetes' own types."""
    for name, schema in properties.items():
        if "properties" in schema:
            yield from leaves(schema["properties"], f"{prefix}{name}.")
        else:
            yield prefix + name


def paths(values: Any, prefix: str = "") -> Iterator[str]:
    """Every path into a tree of values."""
    for name, value in values.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{name}.")


def test_every_value_is_documented_and_rendered() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    # Helm adds `global` to the values of a subchart.
    known = set(leaves(schema["properties"])) - {"global"}

    assert known - set(paths(yaml.safe_load((CHART / "values.yaml").read_text()))) == set()
    assert known - {path for values in RENDERINGS.values() for path in paths(values)} == set()
    assert [path for path, _, comment in documented_values() if not comment] == []


def test_injection_requires_kubernetes_1_36() -> None:
    command = ("template", "keyturn", str(CHART), "--show-only=templates/injection.yaml", "--kube-version")
    values = {"injection": {"enabled": True}}

    assert "kind: MutatingAdmissionPolicy\n" in helm(*command, "1.36.0", values=values)
    with pytest.raises(HelmError, match=r"requires Kubernetes 1\.36, and this is v1\.35\.9: use"):
        helm(*command, "1.35.9", values=values)


def test_own_label_selector_of_a_constraint_is_kept() -> None:
    constraint = {"maxSkew": 7, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    constraint |= {"labelSelector": {"matchLabels": {"team": "blue"}}}
    [deployment] = yaml.safe_load_all(chart_objects({"topologySpreadConstraints": [constraint]}, only=["deployment"]))

    assert deployment["spec"]["template"]["spec"]["topologySpreadConstraints"] == [constraint]


def test_chart_contains_the_generated_crd() -> None:
    [crd] = yaml.safe_load_all(chart_objects(only=["crds"]))

    assert crd["spec"] == yaml.safe_load(CRD.read_text())["spec"]
    # Helm prints a warning for each symbolic link in a chart, with every command.
    assert [path for path in CHART.rglob("*") if path.is_symlink()] == []


def test_rights_can_be_rendered_alone() -> None:
    kinds = {document["kind"] for document in yaml.safe_load_all(chart_objects(only=RIGHTS))}

    assert "Deployment" not in kinds
    assert {"CustomResourceDefinition", "ServiceAccount", "ClusterRole", "Role"} <= kinds


def test_roles_are_only_in_watched_namespaces() -> None:
    objects = yaml.safe_load_all(chart_objects({"watchNamespaces": ["billing", "other"]}, only=["rbac"]))

    assert {(it["kind"], it["metadata"]["namespace"], it["metadata"]["name"]) for it in objects} == {
        (kind, namespace, name)
        for kind in ("Role", "RoleBinding")
        for namespace, name in (
            ("billing", "keyturn"),
            ("other", "keyturn"),
            ("keyturn", "keyturn-issuance-key"),
            ("keyturn", "keyturn-lease"),
        )
    }


def test_name_of_a_namespace_is_text() -> None:
    """Names that YAML reads as null, a boolean or a number."""
    namespaces = ["null", "true", "123", "keyturn"]
    roles = yaml.safe_load_all(chart_objects({"watchNamespaces": namespaces[:3]}, only=["rbac"]))

    assert {it["metadata"]["namespace"] for it in roles} == set(namespaces)


@pytest.mark.parametrize(
    ("context", "lines"),
    [
        pytest.param({}, [], id="default: OpenShift assigns them"),
        pytest.param({"runAsUser": 7, "runAsGroup": 8}, ["runAsGroup: 8", "runAsUser: 7"], id="explicit"),
    ],
)
def test_default_user_is_omitted_on_openshift(context: Values, lines: list[str]) -> None:
    serves = (*NEWEST, "security.openshift.io/v1/SecurityContextConstraints")
    text = chart_objects({"podSecurityContext": context}, only=("deployment",), serves=serves)

    assert re.findall(r"runAs(?:User|Group): \d+", text) == lines
    assert "runAsNonRoot: true" in text
