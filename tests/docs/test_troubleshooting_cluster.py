"""The commands of docs/operations/troubleshooting.md run in their order, unchanged."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.cluster.namespace import Namespace
from tests.support.cluster.page import run_command, shell_blocks
from tests.support.cluster.plugin import Plugin
from tests.support.controlplane import binary
from tests.support.emulator.client import Emulator

# These need the operator's pods or prometheus-operator.
SKIPPED = ("kubectl -n keyturn top", "kubectl -n keyturn logs", "kubectl -n keyturn get servicemonitors")
CREATE_SOURCE = "kubectl create secret generic acme-license --from-literal=license_token="


@pytest.fixture
def variables(namespace: Namespace, aws: Emulator, tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that works in the namespace."""
    kubeconfig = Path(shutil.copy(namespace.plane.kubeconfig, tmp_path / "kubeconfig"))
    Plugin(namespace, tmp_path, kubeconfig)  # installs kubectl-keyturn there
    path = os.pathsep.join([str(tmp_path), str(binary("kubectl").parent), os.environ["PATH"]])
    tokens = {"LICENSE_TOKEN": aws.refresh_token(), "NEW_TOKEN": aws.refresh_token()}
    variables = (
        os.environ | tokens | {"KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(tmp_path / "cache"), "PATH": path}
    )
    run_command(f"kubectl config set-context --current --namespace={namespace.name}", variables)
    return variables


@pytest.mark.usefixtures("operator")
def test_commands_run(namespace: Namespace, variables: dict[str, str]) -> None:
    run_command(f'{CREATE_SOURCE}"$LICENSE_TOKEN"', variables)
    run_command("kubectl create secret generic acme-license-keyturn --from-literal=license_token=a-token", variables)
    run_command("kubectl apply -f examples/license-manager.yaml", variables)
    namespace.wait_until_ready("acme-billing")

    outputs = {command: run(command, namespace, variables) for command in commands()}

    assert "kubectl keyturn check -f examples/license-manager.yaml" in outputs
    assert "acme-billing: renewed, valid until" in outputs["kubectl keyturn renew acme-billing --wait"]
    assert namespace.condition("acme-billing", "Ready")[0] == "True"


def commands() -> list[str]:
    """Return the commands of the page, with continuation lines joined."""
    text = "".join(shell_blocks("docs/operations/troubleshooting.md")).replace("\\\n", "")
    return [line for line in text.splitlines() if not line.startswith(SKIPPED)]


def run(command: str, namespace: Namespace, variables: dict[str, str]) -> str:
    """Run a command in the test's namespace."""
    if command.startswith(CREATE_SOURCE) and "--dry-run" not in command:
        namespace.kubectl("delete", "secret", "acme-license")
    return run_command(command.replace("-n billing", f"-n {namespace.name}"), variables)
