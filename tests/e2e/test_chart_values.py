"""What each value of the chart does, without a cluster."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.test_chart_monitoring import MONITORING
from tests.support.cluster.chart import CHART, NEWEST, RIGHTS, HelmError, Values, chart_objects, helm
from tools.chart_docs.__main__ import main as written
from tools.chart_docs.__main__ import values as table_rows

CRD = Path(__file__).parents[2] / "crds" / "keyturn.dev_tokenrequests.yaml"
SPREAD = {"maxSkew": 7, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
CONFIG = {"renewal": {"minIntervalSeconds": 3600}}
RULE = {"ports": [{"port": 7, "protocol": "TCP"}]}
BUDGET = {"enabled": True}
NAMES = {"serviceAccountTokens": True, "serviceAccountTokenNames": ["blue"]}
CONTAINER = {"name": "blue", "image": "blue"}
DIGEST = "sha256:" + "0" * 64
ADDED: list[tuple[Values, str]] = [
    ({"nameOverride": "blue"}, "app.kubernetes.io/name: blue"),
    ({"fullnameOverride": "blue"}, "--lease-name=blue"),
    ({"namespaceOverride": "blue"}, "namespace: blue"),
    ({"commonLabels": {"team": "blue"}}, "team: blue"),
    ({"global": {"imagePullSecrets": [{"name": "blue"}]}}, "imagePullSecrets:\n      - name: blue"),
    ({"global": {"priorityClassName": "blue"}}, "priorityClassName: blue"),
    ({"global": {"of_another_chart": 1}, "podLabels": {"team": "blue"}}, "team: blue"),
    ({"crds": {"annotations": {"team": "blue"}}}, "team: blue"),
    ({"image": {"repository": "blue"}}, 'image: "blue:0.1.0"'),
    ({"image": {"tag": "blue"}}, 'image: "keyturn:blue"'),
    ({"image": {"digest": DIGEST}}, f'image: "keyturn@{DIGEST}"'),
    ({"image": {"pullPolicy": "Always"}}, "imagePullPolicy: Always"),
    ({"imagePullSecrets": [{"name": "blue"}]}, "imagePullSecrets:\n      - name: blue"),
    ({"replicaCount": 2}, "replicas: 2"),
    ({"leaderElect": False}, "--no-leader-elect"),
    ({"leaderElect": False}, "type: Recreate"),
    ({"strategy": {"type": "Recreate"}}, "type: Recreate"),
    ({"leaseName": "blue"}, "--lease-name=blue"),
    ({"leaseName": "blue"}, "resourceNames: [blue]"),
    ({"podDisruptionBudget": BUDGET}, "  maxUnavailable: 1\n"),
    ({"podDisruptionBudget": BUDGET | {"minAvailable": 1}}, "  minAvailable: 1\n"),
    ({"podDisruptionBudget": BUDGET | {"maxUnavailable": "50%"}}, "  maxUnavailable: 50%\n"),
    ({"revisionHistoryLimit": 7}, "revisionHistoryLimit: 7"),
    ({"terminationGracePeriodSeconds": 7}, "terminationGracePeriodSeconds: 7"),
    ({"watchNamespaces": ["billing", "other"]}, "--namespace=billing\n            - --namespace=other"),
    ({"concurrent": 7}, "--concurrent=7"),
    ({"log": {"level": "debug"}}, "--log-level=debug"),
    ({"log": {"format": "text"}}, "--log-format=text"),
    ({"config": CONFIG}, "config.yaml: |\n    renewal:\n      minIntervalSeconds: 3600"),
    ({"config": CONFIG}, "--config=/etc/keyturn/config.yaml"),
    ({"config": CONFIG}, "checksum/config: "),
    ({"extraArgs": ["--blue"]}, "- --blue"),
    ({"extraEnv": [{"name": "BLUE", "value": "1"}]}, "env:\n            - name: BLUE"),
    ({"metrics": {"listen": {"port": 7070}}}, "--http-bind-address=:7070"),
    ({"metrics": {"listen": {"port": 7070}}}, "containerPort: 7070"),
    ({"serviceAccount": {"name": "blue"}}, "serviceAccountName: blue"),
    ({"serviceAccount": {"create": False}}, "serviceAccountName: default"),
    ({"serviceAccount": {"annotations": {"team": "blue"}}}, "team: blue"),
    ({"serviceAccount": {"automount": False}}, "automountServiceAccountToken: false"),
    ({"serviceAccount": {"extraLabels": {"team": "blue"}}}, "team: blue"),
    ({"deploymentAnnotations": {"team": "blue"}}, "annotations:\n    team: blue"),
    ({"podAnnotations": {"team": "blue"}}, "team: blue"),
    ({"podLabels": {"team": "blue"}}, "team: blue"),
    ({"podSecurityContext": {"fsGroup": 7}}, "fsGroup: 7"),
    ({"securityContext": {"runAsUser": 7}}, "runAsUser: 7"),
    ({"resources": {"limits": {"memory": "7Gi"}}}, "memory: 7Gi"),
    ({"livenessProbe": {"periodSeconds": 7}}, "periodSeconds: 7"),
    ({"readinessProbe": {"periodSeconds": 7}}, "periodSeconds: 7"),
    ({"startupProbe": {"periodSeconds": 7}}, "startupProbe:\n            httpGet: {path: /readyz, port: http}"),
    ({"hostNetwork": True}, "hostNetwork: true"),
    ({"hostNetwork": True}, "dnsPolicy: ClusterFirstWithHostNet"),
    ({"hostNetwork": True, "dnsPolicy": "Default"}, "dnsPolicy: Default"),
    ({"dnsConfig": {"searches": ["blue"]}}, "dnsConfig:\n        searches:\n        - blue"),
    ({"hostAliases": [{"ip": "10.0.0.7"}]}, "hostAliases:\n      - ip: 10.0.0.7"),
    ({"networkPolicy": {"enabled": True}}, "- port: http\n        protocol: TCP\n  egress:"),
    ({"networkPolicy": {"enabled": True}}, "port: 6443"),
    ({"networkPolicy": {"enabled": True, "ingress": [RULE]}}, "- port: 7\n        protocol: TCP\n  egress:"),
    ({"networkPolicy": {"enabled": True, "egress": [RULE]}}, "egress:\n    - ports:\n      - port: 7"),
    ({"nodeSelector": {"team": "blue"}}, "nodeSelector:\n        team: blue"),
    ({"tolerations": [{"key": "blue"}]}, "tolerations:\n      - key: blue"),
    ({"affinity": {"podAffinity": {}}}, "affinity:\n        podAffinity"),
    ({"topologySpreadConstraints": [SPREAD]}, "maxSkew: 7\n        topologyKey: zone"),
    ({"rbac": {"serviceAccountTokens": True}}, "resources: [serviceaccounts/token]"),
    ({"rbac": NAMES}, 'resources: [serviceaccounts/token]\n    resourceNames: ["blue"]'),
    ({"secrets": {"watch": False}}, "--no-watch-secrets"),
    ({"secrets": {"watch": False}}, "verbs: [get, create, patch, delete]"),
    ({"extraInitContainers": [CONTAINER]}, "initContainers:\n        - image: blue"),
    ({"extraContainers": [CONTAINER]}, "- image: blue\n          name: blue\n      volumes"),
    ({"extraObjects": ["kind: A\ndata: {{ .Release.Name | upper }}"]}, "kind: A\ndata: KEYTURN"),
    ({"extraObjects": [{"kind": "A", "data": "{{ .Release.Name | upper }}"}]}, "data: 'KEYTURN'\nkind: A"),
    ({"priorityClassName": "blue"}, "priorityClassName: blue"),
    ({"extraVolumes": [{"name": "blue", "emptyDir": {}}]}, "- emptyDir: {}\n          name: blue"),
    ({"extraVolumeMounts": [{"name": "blue", "mountPath": "/blue"}]}, "- mountPath: /blue"),
    ({"injection": {"enabled": True}}, "kind: MutatingAdmissionPolicy"),
    ({"injection": {"enabled": True}}, '"image": dyn("keyturn:0.1.0")'),
    ({"injection": {"enabled": True, "image": "blue:1"}}, '"image": dyn("blue:1")'),
    ({"injection": {"enabled": True, "port": 7000}}, '"--listen=127.0.0.1:7000"'),
    ({"injection": {"enabled": True, "port": 7000}}, '"port": dyn(7001)'),
    ({"injection": {"enabled": True, "port": 7000}}, '"http://127.0.0.1:7000/"'),
    ({"injection": {"enabled": True, "resources": {"requests": {"cpu": 0.5}}}}, '"cpu": dyn(0.5)'),
    (
        {"injection": {"enabled": True, "namespaceSelector": {"matchLabels": {"team": "blue"}}}},
        "namespaceSelector:\n      matchLabels:\n        team: blue",
    ),
    (
        {"injection": {"enabled": True}, "watchNamespaces": ["billing"]},
        "- key: kubernetes.io/metadata.name\n        operator: In\n        values:\n        - billing",
    ),
]
REMOVED: list[tuple[Values, str]] = [
    ({"crds": {"enabled": False}}, "kind: CustomResourceDefinition"),
    ({"crds": {"keep": False}}, "helm.sh/resource-policy: keep"),
    ({"leaderElect": False}, "resources: [leases]"),
    ({"rbac": {"create": False}}, "rbac.authorization.k8s.io"),
    ({"serviceAccount": {"create": False}}, "kind: ServiceAccount\nmetadata:"),
    ({"rbac": {"aggregateToView": False}}, "rbac.authorization.k8s.io/aggregate-to-view"),
    ({"rbac": {"aggregateToEdit": False}}, "rbac.authorization.k8s.io/aggregate-to-edit"),
    ({"rbac": {"aggregateToAdmin": False}}, "rbac.authorization.k8s.io/aggregate-to-admin"),
    ({"topologySpreadConstraints": []}, "topologySpreadConstraints"),
    ({"livenessProbe": None}, "/healthz"),
    ({"readinessProbe": None}, "/readyz"),
    ({"watchNamespaces": ["billing"]}, "kind: ClusterRole"),
]


@cache
def default() -> str:
    return chart_objects()


def leaves(properties: Any, prefix: str = "") -> Iterator[str]:
    """Name the values of a schema; what Kubernetes' own types have inside is theirs."""
    for name, schema in properties.items():
        if "properties" in schema:
            yield from leaves(schema["properties"], f"{prefix}{name}.")
        else:
            yield prefix + name


def given(values: Any, prefix: str = "") -> Iterator[str]:
    """Name every path into a tree of values."""
    for name, value in values.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from given(value, f"{prefix}{name}.")


def test_lint() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize(("values", "text"), ADDED, ids=map(repr, ADDED))
def test_value_adds(values: Values, text: str) -> None:
    assert text in chart_objects(values)
    assert text not in default()


@pytest.mark.parametrize(("values", "text"), REMOVED, ids=map(repr, REMOVED))
def test_value_removes(values: Values, text: str) -> None:
    assert text not in chart_objects(values)
    assert text in default()


def test_every_value_is_told_and_tried() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    # Helm itself adds `global` to the values of a chart that another one includes.
    known = set(leaves(schema["properties"])) - {"global"}
    told = given(yaml.safe_load((CHART / "values.yaml").read_text()))
    tried = (path for values, _ in ADDED + REMOVED + MONITORING for path in given(values))

    assert known - set(told) == set()
    assert known - set(tried) == set()


def test_what_is_written_by_a_program_is_fresh() -> None:
    assert written("--check") == 0


def test_every_value_is_told_in_the_table() -> None:
    assert [path for path, _, told in table_rows() if not told] == []


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 1},
        {"image": {"name": "a"}},
        {"crds": {"install": True}},
        {"metrics": {"listen": {"host": "a"}}},
        {"serviceAccount": {"labels": {}}},
        {"log": {"level": "loud"}},
        {"image": {"digest": "latest"}},
        {"injection": {"webhook": True}},
        {"injection": {"port": 80}},
        {"config": {"large": 1000000}},
        {"config": {"aws": {"endpoint": "http://a"}}},
        {"config": {"sources": {"ambient": [{"namespaces": ["a"]}]}}},
        {"config": {"aws": {"endpoints": {"sts": "ftp://a"}}}},
        {"podDisruptionBudget": {"minAvailable": "many"}},
        {"networkPolicy": {"rules": []}},
        {"secrets": {"watch": "no"}},
        {"dnsPolicy": "Mine"},
        {"livenessProbe": {"httpGet": {"path": "/"}}},
        {"startupProbe": {"exec": {}}},
        {"injection": {"namespaceSelector": {"team": "blue"}}},
        {"log": None},
        {"log": {"level": None}},
        {"image": {"repository": None}},
        {"metrics": {"listen": {"port": None}}},
        {"rbac": {"create": None}},
    ],
    ids=repr,
)
def test_unknown_value_is_refused(values: Values) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        chart_objects(values)


@pytest.mark.parametrize("enabled", [True, False])
def test_what_may_be_empty_may_be_null(*, enabled: bool) -> None:
    names = ("serviceMonitor", "prometheusRule", "grafanaDashboard", "injection")
    of_labels = ("additionalLabels", "extraLabels", "annotations", "namespaceSelector", "relabelings")
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    sections: Values = {
        name: {"enabled": True} | {label: None for label in of_labels if label in schema[name]["properties"]}
        for name in names
    }
    lists = ("imagePullSecrets", "config", "podAnnotations", "commonLabels", "extraArgs", "extraEnv", "resources",
             "securityContext", "affinity", "networkPolicy", "podDisruptionBudget", "global")  # fmt: skip
    nothing = dict.fromkeys((*names, *lists, "podMonitor"))
    values = {**nothing, "crds": {"annotations": None}, **(sections if enabled else {})}

    assert "<nil>" not in notes(values) + chart_objects(values)


def test_two_replicas_need_an_election() -> None:
    with pytest.raises(HelmError, match="replicaCount above 1 needs leaderElect"):
        chart_objects({"replicaCount": 2, "leaderElect": False})


def test_no_policy_where_none_is_served() -> None:
    values = {"injection": {"enabled": True}}

    assert "AdmissionPolicy" in chart_objects(values)
    assert "AdmissionPolicy" not in chart_objects(values, serves=())


@pytest.mark.parametrize("enabled", [True, False])
def test_the_notes_tell_that_no_pod_is_changed(*, enabled: bool) -> None:
    dry = ("install", "keyturn", str(CHART), "--dry-run=client")
    notes = helm(*dry, values={"injection": {"enabled": enabled}})
    says = "Injection is OFF: this cluster serves no MutatingAdmissionPolicy (Kubernetes 1.36 does)."

    assert "rollout status" in notes
    assert (says in notes) == enabled


def test_a_budget_has_one_limit() -> None:
    with pytest.raises(HelmError, match="minAvailable or maxUnavailable, not both"):
        chart_objects({"podDisruptionBudget": BUDGET | {"minAvailable": 1, "maxUnavailable": 1}})


def test_a_constraint_of_ones_own_keeps_its_selector() -> None:
    own = SPREAD | {"labelSelector": {"matchLabels": {"team": "blue"}}}
    [deployment] = yaml.safe_load_all(chart_objects({"topologySpreadConstraints": [own]}, only=["deployment"]))

    assert deployment["spec"]["template"]["spec"]["topologySpreadConstraints"] == [own]


def test_memory_is_what_was_measured() -> None:
    told = (CHART.parents[1] / "docs" / "design" / "performance.md").read_text()
    peaks = [int(peak) for peak in re.findall(r"\| restart with [^|]*\|[^|]*\b([0-9]+) MiB", told)]
    of = yaml.safe_load((CHART / "values.yaml").read_text())["resources"]
    asked, limit = (int(of[kind]["memory"].removesuffix("Mi")) for kind in ("requests", "limits"))

    assert len(peaks) == 2
    assert peaks[0] < asked
    assert 2 * peaks[1] < limit


NOTES = [
    ({}, "serves the whole cluster"),
    ({}, "rbac.serviceAccountTokens=true"),
    ({}, "config.sources.ambient"),
    ({}, "Uninstalling keeps the CRD"),
    ({"watchNamespaces": ["billing", "web"]}, "serves the namespaces billing, web"),
    ({"namespaceOverride": "blue"}, "kubectl --namespace blue rollout status deployment/keyturn"),
    (
        {"watchNamespaces": ["billing", "web"]},
        "Another release, for other namespaces, is installed with crds.enabled=false",
    ),
    ({}, "serviceMonitor.enabled=true"),
    ({}, "alerts: prometheusRule.enabled=true"),
    ({"secrets": {"watch": False}}, "healed at its next renewal"),
    ({"crds": {"enabled": False}}, "brings no CRD"),
    ({"crds": {"keep": False}}, "removes the CRD, every TokenRequest of the cluster"),
]


@pytest.mark.parametrize(("values", "text"), NOTES, ids=map(repr, NOTES))
def test_the_notes_tell(values: Values, text: str) -> None:
    assert text in notes(values)


def test_the_notes_do_not_offer_what_is_on() -> None:
    ambient = [{"namespaces": ["a"], "roles": ["*"]}]
    on = {"sources": {"ambient": ambient}, "issuers": {"allowedPrivateNetworks": ["10.0.0.0/8"]}}
    rights = {"rbac": {"serviceAccountTokens": True}, "config": on}
    monitored: Values = {name: {"enabled": True} for name in ("podMonitor", "prometheusRule")}
    told = notes({"replicaCount": 2, **rights, **monitored})
    offers = ("serviceAccountTokens", "sources.ambient", "allowedPrivateNetworks", "standby", "metrics", "alerts")

    assert [it for it in offers if it in told] == []


def notes(values: Values) -> str:
    rendered = helm("install", "keyturn", str(CHART), "--dry-run=client", values=values)
    return rendered.partition("NOTES:")[2]


def test_the_crd_is_the_generated_one() -> None:
    [rendered] = yaml.safe_load_all(chart_objects(only=["crds"]))

    assert rendered["spec"] == yaml.safe_load(CRD.read_text())["spec"]
    assert (CHART / "files" / "tokenrequests.yaml").readlink() == Path("../../../crds") / CRD.name


def test_rights_alone() -> None:
    kinds = [document["kind"] for document in yaml.safe_load_all(chart_objects(only=RIGHTS))]

    assert "Deployment" not in kinds
    assert {"CustomResourceDefinition", "ServiceAccount", "ClusterRole", "Role"} <= set(kinds)


def test_scoped_roles_are_in_these_namespaces_only() -> None:
    objects = yaml.safe_load_all(chart_objects({"watchNamespaces": ["billing", "other"]}, only=["rbac"]))

    assert {(it["kind"], it["metadata"]["namespace"], it["metadata"]["name"]) for it in objects} == {
        (kind, namespace, name)
        for kind in ("Role", "RoleBinding")
        for namespace, name in (("billing", "keyturn"), ("other", "keyturn"), ("keyturn", "keyturn-lease"))
    }


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        pytest.param({}, [], id="as by default: OpenShift chooses"),
        pytest.param({"runAsUser": 7, "runAsGroup": 8}, ["runAsGroup: 8", "runAsUser: 7"], id="as somebody wants it"),
    ],
)
def test_the_users_of_openshift(asked: Values, named: list[str]) -> None:
    serves = (*NEWEST, "security.openshift.io/v1/SecurityContextConstraints")
    rendered = chart_objects({"podSecurityContext": asked}, only=("deployment",), serves=serves)

    assert re.findall(r"runAs(?:User|Group): \d+", rendered) == named
    assert "runAsNonRoot: true" in rendered
