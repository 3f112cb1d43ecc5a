"""Each command of docs/operations/troubleshooting.md is run, in its order, as it stands there."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.cluster.namespace import Namespace
from tests.support.cluster.page import ROOT, blocks, run
from tests.support.cluster.plugin import Plugin
from tests.support.controlplane import binary
from tests.support.emulator.client import Emulator

# What asks for the operator's pods, or for prometheus-operator.
ELSEWHERE = ("kubectl -n keyturn top", "kubectl -n keyturn logs", "kubectl -n keyturn get servicemonitors")
MAKES_THE_SOURCE = "kubectl create secret generic acme-license --from-literal=license_token="


@pytest.fixture
def variables(namespace: Namespace, aws: Emulator, tmp_path: Path) -> dict[str, str]:
    """The shell of somebody who works in the namespace."""
    kubeconfig = Path(shutil.copy(namespace.plane.kubeconfig, tmp_path / "kubeconfig"))
    Plugin(namespace, tmp_path, kubeconfig)  # which puts kubectl-keyturn there
    path = os.pathsep.join([str(tmp_path), str(binary("kubectl").parent), os.environ["PATH"]])
    tokens = {"LICENSE_TOKEN": aws.refresh_token(), "NEW_TOKEN": aws.refresh_token()}
    found = (
        os.environ
        | tokens
        | {"KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(tmp_path / "cache"), "PATH": path}
    )
    run(f"kubectl config set-context --current --namespace={namespace.name}", found)
    return found


@pytest.mark.usefixtures("operator")
def test_the_commands_in_their_order(namespace: Namespace, variables: dict[str, str]) -> None:
    run(f'{MAKES_THE_SOURCE}"$LICENSE_TOKEN"', variables)
    run("kubectl create secret generic acme-license-keyturn --from-literal=license_token=a-token", variables)
    run("kubectl apply -f examples/license-manager.yaml", variables)
    namespace.is_ready("acme-billing")

    shown = {command: tried(command, namespace, variables) for command in commands()}

    assert "kubectl keyturn check -f examples/license-manager.yaml" in shown
    assert "acme-billing: renewed, valid until" in shown["kubectl keyturn renew acme-billing --wait"]
    assert namespace.condition("acme-billing", "Ready")[0] == "True"


def commands() -> list[str]:
    """The commands of the page; one that goes on in the next line is one."""
    text = "".join(blocks("docs/operations/troubleshooting.md")).replace("\\\n", "")
    return [line for line in text.splitlines() if not line.startswith(ELSEWHERE)]


def tried(command: str, namespace: Namespace, variables: dict[str, str]) -> str:
    """Run a command in our namespace, as if the page knew its name."""
    if command.startswith(MAKES_THE_SOURCE) and "--dry-run" not in command:
        namespace.kubectl("delete", "secret", "acme-license")
    return run(command.replace("-n billing", f"-n {namespace.name}"), variables)


def test_what_is_not_tried_here_needs_pods_or_another_operator() -> None:
    page = (ROOT / "docs" / "operations" / "troubleshooting.md").read_text()

    assert [start for start in ELSEWHERE if start not in page] == []
