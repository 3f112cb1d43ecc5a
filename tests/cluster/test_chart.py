"""The chart on a real API server: installed, upgraded, removed, and the rights that it gives."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.chart import CHART, Values, chart_objects, helm
from tests.controlplane import ControlPlane

pytestmark = pytest.mark.cluster
CRD = "crd/tokenrequests.keyturn.dev"
SCOPED: Values = {"scopedNamespaces": ["billing"]}
MUCH: Values = {
    "replicaCount": 2,
    "commonLabels": {"team": "blue"},
    "config": {"large": 1000000},
    "extraArgs": ["--blue"],
    "extraEnv": [{"name": "BLUE", "value": "1"}],
    "extraVolumes": [{"name": "blue", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "blue", "mountPath": "/blue"}],
    "imagePullSecrets": [{"name": "blue"}],
    "livenessProbe": None,
    "nodeSelector": {"team": "blue"},
    "tolerations": [{"key": "blue", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "podAnnotations": {"team": "blue"},
    "podLabels": {"colour": "blue"},
    "priorityClassName": "blue",
    "serviceAccount": {"annotations": {"team": "blue"}},
    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"},
    ],
}


@pytest.fixture(scope="module")
def own_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster of their own for these tests, which remove the CRD that all others need."""
    with ControlPlane.started(tmp_path_factory.mktemp("chart")) as plane:
        for namespace in ("keyturn", "billing", "other"):
            plane.kubectl("create", "namespace", namespace)
        yield plane


@pytest.fixture
def empty(own_plane: ControlPlane) -> Iterator[ControlPlane]:
    """This cluster, from which release and CRD are removed in the end."""
    yield own_plane
    uninstall(own_plane, "--ignore-not-found")
    own_plane.kubectl("delete", CRD, "--ignore-not-found", "--wait=false")
    # The API server looks for its objects first, and takes minutes if it does not serve it yet: there are none.
    own_plane.kubectl("patch", CRD, "--type=merge", '--patch={"metadata":{"finalizers":null}}', check=False)


def install(plane: ControlPlane, values: Values | None = None) -> None:
    command = ("upgrade", "--install", "keyturn", str(CHART), "--namespace", "keyturn")
    helm(*command, values=values or {}, kubeconfig=plane.kubeconfig)


def uninstall(plane: ControlPlane, *options: str) -> None:
    helm("uninstall", "keyturn", "--namespace", "keyturn", *options, kubeconfig=plane.kubeconfig)


@pytest.mark.parametrize("values", [{}, SCOPED, MUCH], ids=["default", "scoped", "much"])
def test_the_api_server_accepts_every_field(own_plane: ControlPlane, values: Values) -> None:
    strict = ("apply", "--dry-run=server", "--validate=strict", "--filename=-")

    assert "deployment.apps/keyturn" in own_plane.kubectl(*strict, stdin=chart_objects(values))


def test_the_pod_passes_the_restricted_standard(own_plane: ControlPlane) -> None:
    [deployment] = yaml.safe_load_all(chart_objects(only=["deployment"]))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": "restricted"}}
    pod["spec"] = deployment["spec"]["template"]["spec"]
    own_plane.kubectl("create", "namespace", "restricted")
    own_plane.kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")

    own_plane.kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(pod))


@pytest.mark.parametrize("values", [{}, SCOPED], ids=["cluster-wide", "scoped"])
def test_install_creates_everything(empty: ControlPlane, values: Values) -> None:
    install(empty, values)

    assert "deployment.apps/keyturn" in empty.kubectl(
        "get", "--output=name", "--filename=-", stdin=chart_objects(values)
    )
    assert empty.kubectl("get", CRD, "--output=name")


def test_upgrade(empty: ControlPlane) -> None:
    install(empty)
    install(empty, {**SCOPED, "concurrent": 7})

    deployment = empty.kubectl("get", "deployment/keyturn", "--namespace=keyturn", "--output=yaml")
    assert "--workers=7" in deployment
    assert "NotFound" in empty.kubectl("get", "clusterrole/keyturn", check=False)


def test_uninstall_keeps_the_crd_and_a_new_release_takes_it_over(empty: ControlPlane) -> None:
    install(empty)
    uninstall(empty)
    deleted = empty.kubectl("get", CRD, "--output=jsonpath={.metadata.deletionTimestamp}")
    deployment = empty.kubectl("get", "deployment/keyturn", "--namespace=keyturn", check=False)
    install(empty)

    assert deleted == ""
    assert "NotFound" in deployment


def test_uninstall_removes_the_crd_if_asked(empty: ControlPlane) -> None:
    install(empty, {"crds": {"keep": False}})
    uninstall(empty)

    deleted = empty.kubectl("get", CRD, "--output=jsonpath={.metadata.deletionTimestamp}", check=False)
    assert deleted.startswith("20") or "NotFound" in deleted


CLUSTER_WIDE = [
    ("yes", "watch tokenrequests.keyturn.dev --all-namespaces"),
    ("no", "patch tokenrequests.keyturn.dev --namespace=billing"),
    ("yes", "patch tokenrequests.keyturn.dev --subresource=status --namespace=billing"),
    ("yes", "watch secrets --all-namespaces"),
    ("yes", "patch secrets --namespace=other"),
    ("no", "update secrets --namespace=other"),
    ("yes", "create events --namespace=other"),
    ("no", "create serviceaccounts --subresource=token --namespace=billing"),
    ("no", "get pods --namespace=keyturn"),
    ("yes", "create leases --namespace=keyturn"),
    ("yes", "update leases/keyturn --namespace=keyturn"),
    ("no", "update leases/another --namespace=keyturn"),
    ("no", "create leases --namespace=billing"),
]
IN_BILLING = [
    ("yes", "watch secrets --namespace=billing"),
    ("yes", "patch tokenrequests.keyturn.dev --subresource=status --namespace=billing"),
    ("no", "get secrets --namespace=other"),
    ("no", "get secrets --namespace=keyturn"),
    ("no", "list tokenrequests.keyturn.dev --all-namespaces"),
    ("yes", "update leases/keyturn --namespace=keyturn"),
]


@pytest.mark.parametrize(
    ("values", "answers"), [({}, CLUSTER_WIDE), (SCOPED, IN_BILLING)], ids=["cluster-wide", "scoped"]
)
def test_rights(empty: ControlPlane, values: Values, answers: list[tuple[str, str]]) -> None:
    install(empty, values)
    operator = empty.service_account_kubeconfig("keyturn", "keyturn")

    def may(question: str) -> str:
        answer = empty.kubectl("auth", "can-i", *question.split(), kubeconfig=operator, check=False)
        return answer.split()[0]

    assert [(may(question), question) for _, question in answers] == answers
