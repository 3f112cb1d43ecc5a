"""The chart's policies inject the same sidecar and return the same warnings as `keyturn` does for a manifest."""

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
SIDECAR = SidecarConfig("keyturn-sidecar:0.1.0")
EXAMPLE = Path(__file__).parents[2] / "examples" / "pod-injected.yaml"
CREATE = ("create", "--dry-run=server", "--validate=strict", "--output=json", "--filename=-")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def create_pod(plane: ControlPlane, body: Body, namespace: str = NAMESPACE) -> Body:
    """Return a pod as the API server would store it, without generated fields."""
    created = json.loads(plane.kubectl("--namespace", namespace, *CREATE, stdin=json.dumps(body)))
    return {"annotations": created["metadata"].get("annotations"), "spec": created["spec"]}


def warnings(plane: ControlPlane, body: Body, namespace: str = NAMESPACE) -> list[str]:
    """Return the warnings of the chart's policy."""
    command = ("--namespace", namespace, *CREATE, "--warnings-as-errors")
    output = plane.kubectl(*command, stdin=json.dumps(body), check=False)
    lines = [line for line in output.splitlines() if line.startswith("Warning:") and "keyturn-injection" in line]
    return [
        warning for line in lines for warning in line.partition("' with binding 'keyturn-injection': ")[2].split("; ")
    ]


def wait_for_policies(plane: ControlPlane) -> None:
    """Wait until the API server applies the policies, which takes about a second."""
    body = CASES["one of two containers has its own credentials"].pod
    until(lambda: warnings(plane, body) and "initContainers" in create_pod(plane, body)["spec"], seconds=30)


def install(plane: ControlPlane) -> None:
    plane.kubectl("create", "namespace", NAMESPACE)
    plane.kubectl("apply", "--filename=-", stdin=chart_objects(VALUES, only=["injection"]))
    wait_for_policies(plane)


@pytest.fixture(scope="module")
def injecting(plane: ControlPlane) -> Iterator[ControlPlane]:
    install(plane)
    yield plane
    plane.kubectl("delete", "--filename=-", stdin=chart_objects(VALUES, only=["injection"]))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_api_server_injects_the_same_sidecar(case: Case, injecting: ControlPlane) -> None:
    # The policies do not apply to the namespace "default".
    expected = create_pod(injecting, dict(inject_sidecar(case.pod, SIDECAR)), "default")

    assert create_pod(injecting, case.pod) == expected


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_api_server_returns_the_same_warnings(case: Case, injecting: ControlPlane) -> None:
    assert sorted(warnings(injecting, case.pod)) == sorted(case.messages)


def test_pod_of_a_job_is_injected(injecting: ControlPlane) -> None:
    head = {"annotations": pod()["metadata"]["annotations"]}
    template = {"metadata": head, "spec": pod(restartPolicy="Never")["spec"]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {"template": template}}

    def create(template: Body, namespace: str) -> Body:
        metadata = {**template["metadata"], "generateName": "job-"}
        return create_pod(injecting, {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}, namespace)

    assert create(template, NAMESPACE) == create(inject_sidecar(job, SIDECAR)["spec"]["template"], "default")
    assert create_job(injecting, dict(inject_sidecar(job, SIDECAR)))["initContainers"][0]["name"] == "keyturn"


def create_job(plane: ControlPlane, job: Body) -> Body:
    created = json.loads(plane.kubectl("--namespace", NAMESPACE, *CREATE, stdin=json.dumps(job)))
    spec: Body = created["spec"]["template"]["spec"]
    return spec


def test_example_is_injected_without_warnings(injecting: ControlPlane) -> None:
    [document] = read_documents(str(EXAMPLE))
    created = create_pod(injecting, document.body)

    assert created == create_pod(injecting, dict(inject_sidecar(document.body, SIDECAR)), "default")
    assert created["spec"]["volumes"][0]["secret"]["secretName"] == "acme-billing-aws"
    assert warnings(injecting, document.body) == []


def test_pod_in_another_namespace_is_not_changed(injecting: ControlPlane) -> None:
    body = CASES["one of two containers has its own credentials"].pod

    assert "initContainers" not in create_pod(injecting, body, "default")["spec"]
    assert warnings(injecting, body, "default") == []


def test_sidecar_meets_the_restricted_pod_security_standard(injecting: ControlPlane) -> None:
    injecting.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    created = create_pod(injecting, pod(container(securityContext=RESTRICTED)))
    with pytest.raises(RuntimeError, match="violates PodSecurity"):
        create_pod(injecting, pod())
    injecting.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce-")

    assert created["spec"]["initContainers"][0]["name"] == "keyturn"


def test_helm_detects_mutating_policies_and_notes_them(injecting: ControlPlane) -> None:
    dry = ("install", "other", str(CHART), "--dry-run=server", "--namespace=default")
    output = helm(*dry, values={**VALUES, "crds": {"enabled": False}}, kubeconfig=injecting.kubeconfig)

    assert "kind: MutatingAdmissionPolicy\n" in output
    assert "The sidecar is injected into pods" in output.partition("NOTES:")[2]


def test_large_pod_stays_within_the_cel_budget(injecting: ControlPlane) -> None:
    names = [f"VARIABLE_{number}" for number in range(200)]
    body = pod(*(container(f"app-{number}", *names) for number in range(40)))
    expected = create_pod(injecting, dict(inject_sidecar(body, SIDECAR)), "default")

    assert create_pod(injecting, body) == expected
    assert warnings(injecting, body) == []


def test_sidecar_gets_no_service_account_token(tmp_path: Path) -> None:
    (tmp_path / "plane").mkdir()
    flags = {"kube-apiserver": ["--disable-admission-plugins=DefaultTolerationSeconds"]}  # not ServiceAccount
    with ControlPlane.started(tmp_path / "plane", flags) as plane:
        install(plane)
        plane.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace", NAMESPACE, "--timeout=30s")
        spec = create_pod(plane, pod())["spec"]
        expected = create_pod(plane, dict(inject_sidecar(pod(), SIDECAR)))["spec"]

    assert "kube-api-access" in json.dumps(spec["containers"])
    assert "kube-api-access" not in json.dumps(spec["initContainers"])
    assert "kube-api-access" not in json.dumps(expected["initContainers"])
