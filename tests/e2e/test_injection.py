"""The chart's policies do to a pod what Python does to a manifest, and tell users the same."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.cli.documents import read_documents
from keyturn.core.pods.injection import SidecarConfig, inject_sidecar
from tests.support.cluster.chart import CHART, chart_objects, helm
from tests.support.controlplane import ControlPlane
from tests.support.pods import CASES, Body, Case, container, pod
from tests.support.processes import until

NAMESPACE = "injected"
VALUES = {"injection": {"enabled": True}, "watchNamespaces": [NAMESPACE]}
SIDECAR = SidecarConfig("keyturn:0.1.0")
EXAMPLE = Path(__file__).parents[2] / "examples" / "pod-injected.yaml"
CREATE = ("create", "--dry-run=server", "--validate=strict", "--output=json", "--filename=-")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def created(plane: ControlPlane, body: Body, namespace: str = NAMESPACE) -> Body:
    """Return a pod as the API server would keep it, without what is new each time."""
    made = json.loads(plane.kubectl("--namespace", namespace, *CREATE, stdin=json.dumps(body)))
    return {"annotations": made["metadata"].get("annotations"), "spec": made["spec"]}


def warnings(plane: ControlPlane, body: Body, namespace: str = NAMESPACE) -> list[str]:
    """Return the sentences that kubectl prints of the chart's policy."""
    command = ("--namespace", namespace, *CREATE, "--warnings-as-errors")
    shown = plane.kubectl(*command, stdin=json.dumps(body), check=False)
    lines = [line for line in shown.splitlines() if line.startswith("Warning:") and "keyturn-injection" in line]
    return [says for line in lines for says in line.partition("' with binding 'keyturn-injection': ")[2].split("; ")]


def wait_for_policies(plane: ControlPlane) -> None:
    """The API server looks at new policies within a second or so."""
    partly = CASES["one of two has its own"].pod
    until(lambda: warnings(plane, partly) and "initContainers" in created(plane, partly)["spec"], seconds=30)


def install(plane: ControlPlane) -> None:
    plane.kubectl("create", "namespace", NAMESPACE)
    plane.kubectl("apply", "--filename=-", stdin=chart_objects(VALUES, only=["injection"]))
    wait_for_policies(plane)


@pytest.fixture(scope="module")
def injecting(plane: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane with the policies, for one namespace."""
    install(plane)
    yield plane
    plane.kubectl("delete", "--filename=-", stdin=chart_objects(VALUES, only=["injection"]))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_api_server_makes_the_pod_that_python_makes(case: Case, injecting: ControlPlane) -> None:
    # Where the policies do not look, only Python's change is there.
    expected = created(injecting, dict(inject_sidecar(case.pod, SIDECAR)), "default")

    assert created(injecting, case.pod) == expected


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_users_are_told_what_python_tells(case: Case, injecting: ControlPlane) -> None:
    assert sorted(warnings(injecting, case.pod)) == sorted(case.messages)


def test_the_pod_of_a_job(injecting: ControlPlane) -> None:
    meta = {"annotations": pod()["metadata"]["annotations"]}
    template = {"metadata": meta, "spec": pod(restartPolicy="Never")["spec"]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {"template": template}}

    def of(template: Body, namespace: str) -> Body:
        about = {**template["metadata"], "generateName": "job-"}
        return created(injecting, {"apiVersion": "v1", "kind": "Pod", **template, "metadata": about}, namespace)

    assert of(template, NAMESPACE) == of(inject_sidecar(job, SIDECAR)["spec"]["template"], "default")
    assert created_job(injecting, dict(inject_sidecar(job, SIDECAR)))["initContainers"][0]["name"] == "keyturn"


def created_job(plane: ControlPlane, job: Body) -> Body:
    made = json.loads(plane.kubectl("--namespace", NAMESPACE, *CREATE, stdin=json.dumps(job)))
    spec: Body = made["spec"]["template"]["spec"]
    return spec


def test_the_example(injecting: ControlPlane) -> None:
    [document] = read_documents(str(EXAMPLE))
    made = created(injecting, document.body)

    assert made == created(injecting, dict(inject_sidecar(document.body, SIDECAR)), "default")
    assert made["spec"]["volumes"][0]["secret"]["secretName"] == "acme-billing-aws"
    assert warnings(injecting, document.body) == []


def test_a_pod_of_another_namespace_is_not_looked_at(injecting: ControlPlane) -> None:
    body = CASES["one of two has its own"].pod

    assert "initContainers" not in created(injecting, body, "default")["spec"]
    assert warnings(injecting, body, "default") == []


def test_the_sidecar_passes_the_restricted_standard(injecting: ControlPlane) -> None:
    injecting.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    made = created(injecting, pod(container(securityContext=RESTRICTED)))
    with pytest.raises(RuntimeError, match="violates PodSecurity"):
        created(injecting, pod())
    injecting.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce-")

    assert made["spec"]["initContainers"][0]["name"] == "keyturn"


def test_helm_finds_out_by_itself_and_tells(injecting: ControlPlane) -> None:
    dry = ("install", "other", str(CHART), "--dry-run=server", "--namespace=default")
    shown = helm(*dry, values={**VALUES, "crds": {"enabled": False}}, kubeconfig=injecting.kubeconfig)

    assert "kind: MutatingAdmissionPolicy\n" in shown
    assert "get the sidecar" in shown.partition("NOTES:")[2]


def test_the_api_server_knows_every_field(injecting: ControlPlane) -> None:
    strict = ("apply", "--dry-run=server", "--validate=strict", "--filename=-")

    assert "unchanged" in injecting.kubectl(*strict, stdin=chart_objects(VALUES, only=["injection"]))


def test_a_very_large_pod_is_within_the_budget_of_an_expression(injecting: ControlPlane) -> None:
    names = [f"VARIABLE_{number}" for number in range(200)]
    body = pod(*(container(f"app-{number}", *names) for number in range(40)))
    expected = created(injecting, dict(inject_sidecar(body, SIDECAR)), "default")

    assert created(injecting, body) == expected
    assert warnings(injecting, body) == []


def test_the_sidecar_gets_no_token_of_the_service_account(tmp_path: Path) -> None:
    (tmp_path / "plane").mkdir()
    flags = {"kube-apiserver": ["--disable-admission-plugins=DefaultTolerationSeconds"]}  # not ServiceAccount
    with ControlPlane.started(tmp_path / "plane", flags) as plane:
        install(plane)
        plane.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace", NAMESPACE, "--timeout=30s")
        spec = created(plane, pod())["spec"]
        told = created(plane, dict(inject_sidecar(pod(), SIDECAR)))["spec"]

    assert "kube-api-access" in json.dumps(spec["containers"])
    assert "kube-api-access" not in json.dumps(spec["initContainers"])
    assert "kube-api-access" not in json.dumps(told["initContainers"])
