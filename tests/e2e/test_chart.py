"""The chart on a real API server: installed, upgraded, removed, and the rights that it gives."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.cluster.chart import CHART, Values, chart_objects, helm
from tests.support.cluster.namespace import token_request
from tests.support.controlplane import ControlPlane
from tests.support.processes import until

pytestmark = pytest.mark.cluster
CRD = "crd/tokenrequests.keyturn.dev"
SCOPED: Values = {"watchNamespaces": ["billing"]}
MUCH: Values = {
    "replicaCount": 2,
    "commonLabels": {"team": "blue"},
    "global": {"imagePullSecrets": [{"name": "green"}], "priorityClassName": "green"},
    "leaseName": "blue",
    "podDisruptionBudget": {"enabled": True, "minAvailable": "50%"},
    "config": {"aws": {"endpoints": {"sts": "https://sts.example"}}, "issuers": {"allowedHosts": ["id.example"]}},
    "extraArgs": ["--blue"],
    "extraEnv": [{"name": "BLUE", "value": "1"}],
    "extraInitContainers": [{"name": "blue", "image": "blue"}],
    "extraContainers": [{"name": "green", "image": "green"}],
    "extraObjects": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-blue"}},
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: green}",
    ],
    "extraVolumes": [{"name": "blue", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "blue", "mountPath": "/blue"}],
    "hostNetwork": True,
    "hostAliases": [{"ip": "10.0.0.7", "hostnames": ["blue"]}],
    "dnsConfig": {"searches": ["blue"]},
    "networkPolicy": {"enabled": True},
    "rbac": {"serviceAccountTokens": True, "serviceAccountTokenNames": ["blue"]},
    "secrets": {"watch": False},
    "startupProbe": {"failureThreshold": 30},
    "imagePullSecrets": [{"name": "blue"}],
    "livenessProbe": None,
    "nodeSelector": {"team": "blue"},
    "tolerations": [{"key": "blue", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "podAnnotations": {"team": "blue"},
    "podLabels": {"colour": "blue"},
    "priorityClassName": "blue",
    "deploymentAnnotations": {"team": "blue"},
    "serviceAccount": {"annotations": {"team": "blue"}, "extraLabels": {"team": "green"}},
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


def install(plane: ControlPlane, values: Values | None = None, chart: Path = CHART) -> None:
    command = ("upgrade", "--install", "keyturn", str(chart), "--namespace", "keyturn")
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


def test_the_commands_of_its_readme(empty: ControlPlane) -> None:
    [commands] = re.findall(r"```sh\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    *installed, removed = (shlex.split(line)[1:] for line in commands.splitlines())
    for command in installed:
        helm(*(str(CHART) if it == "charts/keyturn" else it for it in command), kubeconfig=empty.kubeconfig)

    assert what_is_installed(empty) == ("keyturn-0.1.0", "Principal")
    helm(*removed, kubeconfig=empty.kubeconfig)
    assert "NotFound" in empty.kubectl("get", "deployment/keyturn", "--namespace=keyturn", check=False)


def test_upgrade(empty: ControlPlane) -> None:
    install(empty)
    install(empty, {**SCOPED, "concurrent": 7})

    deployment = empty.kubectl("get", "deployment/keyturn", "--namespace=keyturn", "--output=yaml")
    assert "--concurrent=7" in deployment
    assert "NotFound" in empty.kubectl("get", "clusterrole/keyturn", check=False)


def test_the_command_of_the_page_on_upgrades_keeps_the_values(empty: ControlPlane) -> None:
    page = (CHART.parents[1] / "docs" / "operations" / "support-policy.md").read_text()
    [command] = re.findall(r"^helm (upgrade keyturn .*)$", page, re.MULTILINE)
    words = [str(CHART) if it == "charts/keyturn" else it for it in shlex.split(command)]
    install(empty, {"concurrent": 7})
    helm(*words, "--set=log.level=debug", kubeconfig=empty.kubeconfig)

    deployment = empty.kubectl("get", "deployment/keyturn", "--namespace=keyturn", "--output=yaml")
    assert "--concurrent=7" in deployment
    assert "--log-level=debug" in deployment


def test_upgrade_from_the_chart_before_and_back(empty: ControlPlane, tmp_path: Path) -> None:
    before = chart_before(tmp_path)
    install(empty, chart=before)
    made = make(empty)
    assert what_is_installed(empty) == ("keyturn-0.0.9", "no Principal")

    install(empty)
    assert what_is_installed(empty) == ("keyturn-0.1.0", "Principal")
    helm("rollback", "keyturn", "1", "--namespace=keyturn", kubeconfig=empty.kubeconfig)
    assert what_is_installed(empty) == ("keyturn-0.0.9", "no Principal")
    install(empty)

    assert uids(empty) == made
    empty.kubectl("delete", *MADE)


def test_uninstall_keeps_the_crd_and_a_new_release_takes_it_over(empty: ControlPlane) -> None:
    install(empty)
    made = make(empty)
    uninstall(empty)
    deployment = empty.kubectl("get", "deployment/keyturn", "--namespace=keyturn", check=False)
    after = uids(empty)
    install(empty)

    assert "NotFound" in deployment
    assert after == uids(empty) == made
    empty.kubectl("delete", *MADE)


def test_a_release_that_no_longer_brings_the_crd_leaves_it(empty: ControlPlane) -> None:
    install(empty)
    install(empty, {"crds": {"enabled": False}})

    assert empty.kubectl("get", CRD, "--output=jsonpath={.metadata.deletionTimestamp}") == ""


def test_uninstall_removes_the_crd_if_asked(empty: ControlPlane) -> None:
    install(empty, {"crds": {"keep": False}})
    uninstall(empty)

    deleted = empty.kubectl("get", CRD, "--output=jsonpath={.metadata.deletionTimestamp}", check=False)
    assert deleted.startswith("20") or "NotFound" in deleted


MADE = ("secret/acme", "tokenrequest/acme", "--namespace=billing")


def make(plane: ControlPlane) -> str:
    """Make a TokenRequest and its Secret, as an operator would; returns their uids."""
    plane.kubectl("wait", "--for=condition=Established", CRD, "--timeout=30s")
    until(lambda: "created" in plane.kubectl("create", *IN_IT, stdin=json.dumps(token_request()), check=False))
    owner = json.loads(plane.kubectl("get", "tokenrequest/acme", "--namespace=billing", "--output=json"))
    about = {key: owner[key] for key in ("apiVersion", "kind")} | {
        key: owner["metadata"][key] for key in ("name", "uid")
    }
    secret = {"metadata": {"name": "acme", "ownerReferences": [about]}}
    plane.kubectl("create", *IN_IT, stdin=json.dumps({"apiVersion": "v1", "kind": "Secret"} | secret))
    return uids(plane)


IN_IT = ("--namespace=billing", "--filename=-")


def uids(plane: ControlPlane) -> str:
    return plane.kubectl("get", *MADE, "--output=jsonpath={.items[*].metadata.uid}")


def what_is_installed(plane: ControlPlane) -> tuple[str, str]:
    """The chart that the Deployment is of, and whether the CRD has the newest column."""
    label = "{.metadata.labels.helm\\.sh/chart}"
    chart = plane.kubectl("get", "deployment/keyturn", "--namespace=keyturn", f"--output=jsonpath={label}")
    columns = plane.kubectl("get", CRD, "--output=jsonpath={..additionalPrinterColumns[*].name}")
    return chart, "Principal" if "Principal" in columns else "no Principal"


def chart_before(directory: Path) -> Path:
    """Package the chart as an older release: another version, and a CRD that has a column less."""
    copy = directory / "keyturn"
    shutil.copytree(CHART, copy)
    about = yaml.safe_load((copy / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump(about | {"version": "0.0.9", "appVersion": "0.0.9"}))
    crd = yaml.safe_load((copy / "files" / "tokenrequests.yaml").read_text())
    [version] = crd["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    version["additionalPrinterColumns"] = [it for it in columns if it["name"] != "Principal"]
    (copy / "files" / "tokenrequests.yaml").write_text(yaml.safe_dump(crd))
    helm("package", str(copy), "--destination", str(directory))
    return directory / "keyturn-0.0.9.tgz"


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("view", "list", "create"),
        ("edit", "deletecollection", "patch --subresource=status"),
        ("admin", "create", "patch --subresource=status"),
    ],
)
def test_what_people_may_do(empty: ControlPlane, role: str, may: str, may_not: str) -> None:
    install(empty)
    empty.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}", "--namespace=billing")

    def can(question: str) -> str:
        verb, *more = question.split()
        asked = (verb, "tokenrequests.keyturn.dev", *more, "--namespace=billing", f"--as={role}")
        return empty.kubectl("auth", "can-i", *asked, check=False).split()[0]

    until(lambda: can(may) == "yes")
    assert can(may_not) == "no"
    empty.kubectl("delete", "rolebinding", role, "--namespace=billing")


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
    ("yes", "patch leases/keyturn --namespace=keyturn"),
    ("no", "update leases/keyturn --namespace=keyturn"),
    ("no", "patch leases/another --namespace=keyturn"),
    ("no", "create leases --namespace=billing"),
]
IN_BILLING = [
    ("yes", "watch secrets --namespace=billing"),
    ("yes", "patch tokenrequests.keyturn.dev --subresource=status --namespace=billing"),
    ("no", "get secrets --namespace=other"),
    ("no", "get secrets --namespace=keyturn"),
    ("no", "list tokenrequests.keyturn.dev --all-namespaces"),
    ("yes", "patch leases/keyturn --namespace=keyturn"),
]
UNWATCHED = [
    ("yes", "get secrets --namespace=other"),
    ("no", "list secrets --namespace=other"),
    ("no", "watch secrets --all-namespaces"),
]
OF_ONE = [
    ("yes", "create serviceaccounts/app --subresource=token --namespace=billing"),
    ("no", "create serviceaccounts/other --subresource=token --namespace=billing"),
]
ONE: Values = {"rbac": {"serviceAccountTokens": True, "serviceAccountTokenNames": ["app"]}}


@pytest.mark.parametrize(
    ("values", "answers"),
    [
        pytest.param({}, CLUSTER_WIDE, id="cluster-wide"),
        pytest.param(SCOPED, IN_BILLING, id="scoped"),
        pytest.param({"secrets": {"watch": False}}, UNWATCHED, id="without a watch of Secrets"),
        pytest.param(ONE, OF_ONE, id="tokens of one ServiceAccount"),
    ],
)
def test_rights(empty: ControlPlane, values: Values, answers: list[tuple[str, str]]) -> None:
    install(empty, values)
    operator = empty.service_account_kubeconfig("keyturn", "keyturn")

    def may(question: str) -> str:
        answer = empty.kubectl("auth", "can-i", *question.split(), kubeconfig=operator, check=False)
        return answer.split()[0]

    assert [(may(question), question) for _, question in answers] == answers
