"""What each value of the chart does, without a cluster."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.chart import CHART, RIGHTS, HelmError, Values, chart_objects, helm

CRD = Path(__file__).parents[2] / "crds" / "keyturn.dev_tokenrequests.yaml"
SPREAD = {"maxSkew": 7, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
DIGEST = "sha256:" + "0" * 64
ADDED: list[tuple[Values, str]] = [
    ({"nameOverride": "blue"}, "app.kubernetes.io/name: blue"),
    ({"fullnameOverride": "blue"}, "--lease-name=blue"),
    ({"commonLabels": {"team": "blue"}}, "team: blue"),
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
    ({"revisionHistoryLimit": 7}, "revisionHistoryLimit: 7"),
    ({"terminationGracePeriodSeconds": 7}, "terminationGracePeriodSeconds: 7"),
    ({"scopedNamespaces": ["billing", "other"]}, "--namespace=billing\n            - --namespace=other"),
    ({"concurrent": 7}, "--workers=7"),
    ({"log": {"level": "debug"}}, "--log-level=debug"),
    ({"log": {"format": "text"}}, "--log-format=text"),
    ({"config": {"large": 1000000}}, "config.yaml: |\n    large: 1000000"),
    ({"config": {"large": 1000000}}, "--config=/etc/keyturn/config.yaml"),
    ({"config": {"large": 1000000}}, "checksum/config: "),
    ({"extraArgs": ["--blue"]}, "- --blue"),
    ({"extraEnv": [{"name": "BLUE", "value": "1"}]}, "env:\n            - name: BLUE"),
    ({"metrics": {"listen": {"port": 7070}}}, "--listen=0.0.0.0:7070"),
    ({"metrics": {"listen": {"port": 7070}}}, "containerPort: 7070"),
    ({"serviceAccount": {"name": "blue"}}, "serviceAccountName: blue"),
    ({"serviceAccount": {"create": False}}, "serviceAccountName: default"),
    ({"serviceAccount": {"annotations": {"team": "blue"}}}, "team: blue"),
    ({"serviceAccount": {"automount": False}}, "automountServiceAccountToken: false"),
    ({"podAnnotations": {"team": "blue"}}, "team: blue"),
    ({"podLabels": {"team": "blue"}}, "team: blue"),
    ({"podSecurityContext": {"fsGroup": 7}}, "fsGroup: 7"),
    ({"securityContext": {"runAsUser": 7}}, "runAsUser: 7"),
    ({"resources": {"limits": {"memory": "7Gi"}}}, "memory: 7Gi"),
    ({"livenessProbe": {"periodSeconds": 7}}, "periodSeconds: 7"),
    ({"readinessProbe": {"periodSeconds": 7}}, "periodSeconds: 7"),
    ({"nodeSelector": {"team": "blue"}}, "nodeSelector:\n        team: blue"),
    ({"tolerations": [{"key": "blue"}]}, "tolerations:\n      - key: blue"),
    ({"affinity": {"podAffinity": {}}}, "affinity:\n        podAffinity"),
    ({"topologySpreadConstraints": [SPREAD]}, "topologySpreadConstraints:\n      - maxSkew: 7"),
    ({"rbac": {"serviceAccountTokens": True}}, "resources: [serviceaccounts/token]"),
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
        {"injection": {"enabled": True}, "scopedNamespaces": ["billing"]},
        "- key: kubernetes.io/metadata.name\n        operator: In\n        values:\n        - billing",
    ),
]
REMOVED: list[tuple[Values, str]] = [
    ({"crds": {"enabled": False}}, "kind: CustomResourceDefinition"),
    ({"crds": {"keep": False}}, "helm.sh/resource-policy: keep"),
    ({"leaderElect": False}, "resources: [leases]"),
    ({"rbac": {"create": False}}, "rbac.authorization.k8s.io"),
    ({"serviceAccount": {"create": False}}, "kind: ServiceAccount\nmetadata:"),
    ({"livenessProbe": None}, "/healthz"),
    ({"readinessProbe": None}, "/readyz"),
    ({"scopedNamespaces": ["billing"]}, "kind: ClusterRole"),
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
    tried = (path for values, _ in ADDED + REMOVED for path in given(values))

    assert known - set(told) == set()
    assert known - set(tried) == set()


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
    ],
    ids=repr,
)
def test_unknown_value_is_refused(values: Values) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        chart_objects(values)


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


def test_the_crd_is_the_generated_one() -> None:
    [rendered] = yaml.safe_load_all(chart_objects(only=["crds"]))

    assert rendered["spec"] == yaml.safe_load(CRD.read_text())["spec"]
    assert (CHART / "files" / "tokenrequests.yaml").readlink() == Path("../../../crds") / CRD.name


def test_rights_alone() -> None:
    kinds = [document["kind"] for document in yaml.safe_load_all(chart_objects(only=RIGHTS))]

    assert "Deployment" not in kinds
    assert {"CustomResourceDefinition", "ServiceAccount", "ClusterRole", "Role"} <= set(kinds)


def test_scoped_roles_are_in_these_namespaces_only() -> None:
    objects = yaml.safe_load_all(chart_objects({"scopedNamespaces": ["billing", "other"]}, only=["rbac"]))

    assert {(it["kind"], it["metadata"]["namespace"], it["metadata"]["name"]) for it in objects} == {
        (kind, namespace, name)
        for kind in ("Role", "RoleBinding")
        for namespace, name in (("billing", "keyturn"), ("other", "keyturn"), ("keyturn", "keyturn-lease"))
    }
