"""The chart on a real API server: install, upgrade, uninstall, and the permissions that it grants."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.cases import cases
from tests.support.cluster.chart import CHART, Values, chart_objects, helm, parent_chart
from tests.support.cluster.chart_values import EXAMPLES, RENDERINGS, TWO_INSTANCES
from tests.support.cluster.crd import CRD
from tests.support.cluster.namespace import token_request
from tests.support.cluster.operator import running_operator
from tests.support.cluster.page import run_command
from tests.support.controlplane import ControlPlane, binary
from tests.support.emulator.client import Emulator
from tests.support.processes import until
from tests.support.prometheus.crds import KINDS, crd_files

pytestmark = pytest.mark.cluster
PARTS = ("service-monitor", "pod-monitor", "rule", "dashboard")
SCOPED: Values = {"watchNamespaces": ["billing"]}


@pytest.fixture(scope="module")
def own_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A separate cluster, because these tests delete the CRD that all other tests need."""
    with ControlPlane.started(tmp_path_factory.mktemp("chart")) as plane:
        for namespace in ("keyturn", "billing", "web", "other"):
            plane.kubectl("create", "namespace", namespace)
        yield plane


@pytest.fixture
def empty(own_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The separate cluster; release and CRD are removed at the end."""
    yield own_plane
    uninstall(own_plane, "--ignore-not-found")
    own_plane.kubectl("delete", CRD, "--ignore-not-found", "--wait=false")
    # The API server first lists the objects, which takes minutes if it does not serve the CRD yet. There are none.
    own_plane.kubectl("patch", CRD, "--type=merge", '--patch={"metadata":{"finalizers":null}}', check=False)


def install(plane: ControlPlane, values: Values | None = None, chart: Path = CHART) -> None:
    command = ("upgrade", "--install", "keyturn", str(chart), "--namespace", "keyturn")
    helm(*command, values=values or {}, kubeconfig=plane.kubeconfig)


def uninstall(plane: ControlPlane, *options: str) -> None:
    helm("uninstall", "keyturn", "--namespace", "keyturn", *options, kubeconfig=plane.kubeconfig)


def require_injection() -> None:
    if os.environ.get("TEST_KUBERNETES"):
        pytest.skip("injection requires Kubernetes 1.36")


@pytest.fixture(scope="module")
def monitored(own_plane: ControlPlane) -> ControlPlane:
    """The separate cluster with the CRDs of prometheus-operator and the namespaces that the values name."""
    for path in crd_files():
        own_plane.kubectl("apply", "--server-side", "--filename", str(path))
    names = [f"crd/{kind}.monitoring.coreos.com" for kind in KINDS]
    own_plane.wait_for_crds(*names)
    for namespace in ("other-namespace", *(f"{it}-namespace" for it in PARTS)):
        own_plane.kubectl("create", "namespace", namespace)
    return own_plane


@cases("values", {"default": {}, **RENDERINGS, **EXAMPLES})
def test_api_server_accepts_every_field(monitored: ControlPlane, values: Values) -> None:
    if "injection" in values:
        require_injection()
    strict = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-")

    assert "deployment.apps/" in monitored.kubectl(*strict, stdin=chart_objects(values))


def test_pod_complies_with_the_restricted_standard(own_plane: ControlPlane) -> None:
    [deployment] = yaml.safe_load_all(chart_objects(only=["deployment"]))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": "restricted"}}
    pod["spec"] = deployment["spec"]["template"]["spec"]
    own_plane.kubectl("create", "namespace", "restricted")
    own_plane.kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")

    own_plane.kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(pod))


def test_readme_commands_install_upgrade_and_uninstall(empty: ControlPlane) -> None:
    [commands] = re.findall(r"```sh\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    *installed, removed = (shlex.split(line)[1:] for line in commands.splitlines())
    for command in installed:
        helm(*(str(CHART) if it == "charts/keyturn" else it for it in command), kubeconfig=empty.kubeconfig)

    assert installed_version(empty) == ("keyturn-0.1.0", "Principal")
    helm(*removed, kubeconfig=empty.kubeconfig)
    assert "NotFound" in empty.kubectl("get", "deployment/keyturn", "--namespace=keyturn", check=False)


def test_check_in_the_notes_succeeds_if_an_operator_reconciles(
    empty: ControlPlane, aws: Emulator, tmp_path: Path
) -> None:
    install(empty)
    notes = helm("get", "notes", "keyturn", "--namespace=keyturn", kubeconfig=empty.kubeconfig)
    [check] = re.findall(r"^  echo .*? delete treq/keyturn-check$", notes, re.DOTALL | re.MULTILINE)
    path = os.pathsep.join((str(binary("kubectl").parent), os.environ["PATH"]))
    empty.wait_for_crds(CRD)
    with running_operator(empty, aws, tmp_path):
        output = run_command(check, os.environ | {"PATH": path, "KUBECONFIG": str(empty.kubeconfig)})

    assert "treq/keyturn-check condition met" in output.replace("tokenrequest.keyturn.dev", "treq")


def test_documented_upgrade_command_keeps_the_values(empty: ControlPlane) -> None:
    page = (CHART.parents[1] / "docs" / "operations" / "upgrading.md").read_text()
    [command] = re.findall(r"^helm (upgrade keyturn .*)$", page, re.MULTILINE)
    words = [str(CHART) if it == "charts/keyturn" else it for it in shlex.split(command)]
    install(empty, {"concurrent": 7})
    helm(*words, "--set=log.level=debug", kubeconfig=empty.kubeconfig)

    deployment = empty.kubectl("get", "deployment/keyturn", "--namespace=keyturn", "--output=yaml")
    assert "--concurrent=7" in deployment
    assert "--log-level=debug" in deployment


def test_leader_election_can_be_disabled_and_enabled(empty: ControlPlane) -> None:
    strategies = []
    for values in ({}, {"leaderElect": False}, {}):
        install(empty, values)
        arguments = ("deployment/keyturn", "--namespace=keyturn", "--output=jsonpath={.spec.strategy.type}")
        strategies.append(empty.kubectl("get", *arguments))

    assert strategies == ["RollingUpdate", "Recreate", "RollingUpdate"]


def test_upgrade_and_rollback_keep_the_objects(empty: ControlPlane, tmp_path: Path) -> None:
    install(empty, chart=previous_chart(tmp_path))
    uids = create_request_and_secret(empty)
    assert installed_version(empty) == ("keyturn-0.0.9", "no Principal")

    install(empty)
    assert installed_version(empty) == ("keyturn-0.1.0", "Principal")
    helm("rollback", "keyturn", "1", "--namespace=keyturn", kubeconfig=empty.kubeconfig)
    assert installed_version(empty) == ("keyturn-0.0.9", "no Principal")
    install(empty)

    assert read_uids(empty) == uids
    empty.kubectl("delete", *OBJECTS)


def test_new_release_adopts_the_crd_of_an_uninstalled_one(empty: ControlPlane) -> None:
    install(empty)
    uids = create_request_and_secret(empty)
    uninstall(empty)
    deployment = empty.kubectl("get", "deployment/keyturn", "--namespace=keyturn", check=False)
    after = read_uids(empty)
    install(empty)

    assert "NotFound" in deployment
    assert after == read_uids(empty) == uids
    empty.kubectl("delete", *OBJECTS)


def test_disabling_the_crd_does_not_delete_it(empty: ControlPlane) -> None:
    install(empty)
    install(empty, {"crds": {"enabled": False}})

    assert empty.kubectl("get", CRD, "--output=jsonpath={.metadata.deletionTimestamp}") == ""


def test_uninstall_deletes_the_crd_without_keep(empty: ControlPlane) -> None:
    install(empty, {"crds": {"keep": False}})
    uninstall(empty)

    deleted = empty.kubectl("get", CRD, "--output=jsonpath={.metadata.deletionTimestamp}", check=False)
    assert deleted.startswith("20") or "NotFound" in deleted


def test_two_aliases_in_a_parent_chart_install_beside_each_other(empty: ControlPlane, tmp_path: Path) -> None:
    require_injection()
    injected = {"injection": {"enabled": True}}
    values = {alias: {**each, **injected} for alias, each in zip(("blue", "green"), TWO_INSTANCES, strict=True)}
    install(empty, {**values, "off": {"enabled": False}}, parent_chart(tmp_path, "blue", "green", "off"))
    deployments = empty.kubectl("get", "deployments", "--namespace=keyturn", "--output=name")
    policies = empty.kubectl("get", "mutatingadmissionpolicies", "--output=name")

    assert deployments.split() == ["deployment.apps/keyturn-blue", "deployment.apps/keyturn-green"]
    assert {it.partition("/")[2] for it in policies.split()} == {"keyturn-blue-injection", "keyturn-green-injection"}


OBJECTS = ("secret/acme", "tokenrequest/acme", "--namespace=billing")


def create_request_and_secret(plane: ControlPlane) -> str:
    """Create a TokenRequest and its Secret, as an operator would, and return their UIDs."""
    plane.wait_for_crds(CRD)
    until(lambda: "created" in plane.kubectl("create", *CREATE_OPTIONS, stdin=json.dumps(token_request()), check=False))
    owner = json.loads(plane.kubectl("get", "tokenrequest/acme", "--namespace=billing", "--output=json"))
    reference = {key: owner[key] for key in ("apiVersion", "kind")} | {
        key: owner["metadata"][key] for key in ("name", "uid")
    }
    secret = {"metadata": {"name": "acme", "ownerReferences": [reference]}}
    plane.kubectl("create", *CREATE_OPTIONS, stdin=json.dumps({"apiVersion": "v1", "kind": "Secret"} | secret))
    return read_uids(plane)


CREATE_OPTIONS = ("--namespace=billing", "--filename=-")


def read_uids(plane: ControlPlane) -> str:
    return plane.kubectl("get", *OBJECTS, "--output=jsonpath={.items[*].metadata.uid}")


def installed_version(plane: ControlPlane) -> tuple[str, str]:
    """The chart version of the Deployment, and whether the CRD has the newest column."""
    label = "{.metadata.labels.helm\\.sh/chart}"
    chart = plane.kubectl("get", "deployment/keyturn", "--namespace=keyturn", f"--output=jsonpath={label}")
    columns = plane.kubectl("get", CRD, "--output=jsonpath={..additionalPrinterColumns[*].name}")
    return chart, "Principal" if "Principal" in columns else "no Principal"


def previous_chart(directory: Path) -> Path:
    """Package the chart as an older release: another version, and a CRD with one column less."""
    copy = directory / "keyturn"
    shutil.copytree(CHART, copy)
    metadata = yaml.safe_load((copy / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump(metadata | {"version": "0.0.9", "appVersion": "0.0.9"}))
    crd = yaml.safe_load((copy / "files" / "tokenrequests.yaml").read_text())
    [version] = crd["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    version["additionalPrinterColumns"] = [it for it in columns if it["name"] != "Principal"]
    (copy / "files" / "tokenrequests.yaml").write_text(yaml.safe_dump(crd))
    helm("package", str(copy), "--destination", str(directory))
    return directory / "keyturn-0.0.9.tgz"


@pytest.mark.parametrize(
    ("role", "allowed", "denied"),
    [
        ("view", "list", "create"),
        ("edit", "deletecollection", "patch --subresource=status"),
        ("admin", "create", "patch --subresource=status"),
    ],
)
def test_built_in_roles_are_extended(empty: ControlPlane, role: str, allowed: str, denied: str) -> None:
    install(empty)
    empty.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}", "--namespace=billing")

    def can(action: str) -> str:
        verb, *options = action.split()
        arguments = (verb, "tokenrequests.keyturn.dev", *options, "--namespace=billing", f"--as={role}")
        return empty.kubectl("auth", "can-i", *arguments, check=False).split()[0]

    until(lambda: can(allowed) == "yes")
    assert can(denied) == "no"
    empty.kubectl("delete", "rolebinding", role, "--namespace=billing")


ONE_ACCOUNT: Values = {"rbac": {"serviceAccountTokens": True, "serviceAccountTokenNames": ["app"]}}
# What roles without an object's name cannot show; test_rights.py compares the roles with the rights used.
RIGHTS = {
    "by default": (
        {},
        ("patch leases/keyturn --namespace=keyturn", "patch secrets --namespace=other"),
        ("patch leases/another --namespace=keyturn", "create serviceaccounts/app --subresource=token"),
    ),
    "scoped": (
        SCOPED,
        ("watch secrets --namespace=billing", "get secrets/keyturn-issuance-key --namespace=keyturn"),
        ("get secrets --namespace=other", "get secrets/another --namespace=keyturn"),
    ),
    "tokens of one ServiceAccount": (
        ONE_ACCOUNT,
        ("create serviceaccounts/app --subresource=token",),
        ("create serviceaccounts/other --subresource=token",),
    ),
}


@cases("values, allowed, denied", RIGHTS)
def test_operator_has_only_these_rights(
    empty: ControlPlane, values: Values, allowed: tuple[str, ...], denied: tuple[str, ...]
) -> None:
    install(empty, values)
    operator = empty.service_account_kubeconfig("keyturn", "keyturn")

    def can(action: str) -> str:
        return empty.kubectl("auth", "can-i", *action.split(), kubeconfig=operator, check=False).split()[0]

    assert [can(action) for action in (*allowed, *denied)] == ["yes"] * len(allowed) + ["no"] * len(denied)
