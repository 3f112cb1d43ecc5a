"""The troubleshooting page: each reason and alert has an entry, and the commands run in their order, unchanged."""

import ast
import os
import re
import shutil
from pathlib import Path

import pytest

from keyturn.core import status as core_status
from keyturn.core.errors import REASONS
from keyturn.core.renewal import WAITING_FOR_RENEWAL
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.page import ROOT, run_command, shell_blocks
from tests.support.cluster.plugin import Plugin
from tests.support.controlplane import binary
from tests.support.emulator.client import Emulator
from tests.support.prometheus.rules import ALERTS

PAGE = "docs/operations/troubleshooting.md"
ENTRIES = set(re.findall(r"^## (\w+)$", (ROOT / PAGE).read_text(), re.MULTILINE))
# CamelCase words in core/status.py that are not reasons: condition types, values, Event types and renewal reasons.
OTHER_WORDS = {
    *("True", "False", "Unknown", "Ready", "Normal", "Warning", "Secret"),
    *("Due", "SecretMissing", "IssuanceUnreadable"),
}


def reasons() -> set[str]:
    """Return the reasons of all conditions and Events: those of failures, and those that core/status.py sets itself."""
    words = {
        node.value
        for node in ast.walk(ast.parse(Path(core_status.__file__).read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"([A-Z][a-z]+)+", node.value)
    }
    return (words - OTHER_WORDS) | {WAITING_FOR_RENEWAL, *REASONS, *(policy.event for policy in REASONS.values())}


def test_each_reason_has_an_entry() -> None:
    assert {entry for entry in ENTRIES if not entry.startswith("Keyturn")} == reasons()


def test_each_alert_has_an_entry() -> None:
    assert {entry for entry in ENTRIES if entry.startswith("Keyturn")} == set(ALERTS)


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
    text = "".join(shell_blocks(PAGE)).replace("\\\n", "")
    return [line for line in text.splitlines() if not line.startswith(SKIPPED)]


def run(command: str, namespace: Namespace, variables: dict[str, str]) -> str:
    if command.startswith(CREATE_SOURCE) and "--dry-run" not in command:
        namespace.kubectl("delete", "secret", "acme-license")
    return run_command(command.replace("-n billing", f"-n {namespace.name}"), variables)
