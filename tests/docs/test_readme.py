"""The commands of the README and of the installation page run in their order, unchanged."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.cluster.operator import running_operator
from tests.support.cluster.page import ROOT, run_command, shell_blocks, shell_variables
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator

_README = (ROOT / "README.md").read_text()
_BLOCKS = shell_blocks("README.md")
_MAKE = [block.strip() for block in _BLOCKS if block.startswith("make")]
# The tests build the image in another way, and run the operator as a process.
_CLUSTER = [
    line
    for block in _BLOCKS
    for line in block.replace("\\\n", "").splitlines()
    if not line.startswith(("make ", "docker "))
]


@pytest.fixture
def own_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane without the CRD and the chart."""
    (tmp_path / "plane").mkdir()
    with ControlPlane.started(tmp_path / "plane") as plane:
        yield plane


@pytest.fixture
def variables(own_plane: ControlPlane) -> dict[str, str]:
    return shell_variables(own_plane)


def test_commands_for_a_cluster_run(
    own_plane: ControlPlane, variables: dict[str, str], aws: Emulator, tmp_path: Path
) -> None:
    variables["LICENSE_TOKEN"] = aws.refresh_token()

    run_command(_CLUSTER[0], variables)
    assert _CLUSTER[0].startswith("helm install")
    # Without a node, the operator runs as a process with the service account that Helm created.
    with running_operator(own_plane, aws, tmp_path):
        outputs = [run_command(command, variables) for command in _CLUSTER[1:]]

    assert any("acme-billing" in text and "True" in text and "Issued" in text for text in outputs)


def test_installation_commands_run_and_leave_nothing(own_plane: ControlPlane, variables: dict[str, str]) -> None:
    outputs = [run_command(block, variables) for block in shell_blocks("docs/installation.md")]

    assert "TokenRequest" in outputs[0]
    left = own_plane.kubectl("get", "crd,namespaces,clusterroles,clusterrolebindings,leases", "-A", "-o", "name")
    assert "keyturn" not in left


def run_demo(**variables: str) -> str:
    command = re.search(r"`(make demo ONCE=1)`", _README)
    assert command
    demo = subprocess.run(
        command[1].split(),
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    return demo.stdout


def test_make_demo_shows_two_renewals_and_exits() -> None:
    output = run_demo()

    assert _MAKE == ["make demo", "make test"]
    assert output.count("assumed-role/LicenseConsumer/keyturn-demo.acme-billing until") == 2
    assert " Issued " in output
    assert 'keyturn_credentials_expiration_timestamp_seconds{name="acme-billing"' in output


def test_make_demo_leaves_nothing_in_a_cluster(own_plane: ControlPlane) -> None:
    output = run_demo(KUBECONFIG_DEMO=str(own_plane.kubeconfig))
    own_plane.kubectl("wait", "--for=delete", "namespace/keyturn-demo", "--timeout=60s")

    assert output.count("assumed-role/LicenseConsumer/keyturn-demo.acme-billing until") == 2
    assert own_plane.kubectl("get", "crd", "--ignore-not-found") == ""


def test_manifest_is_the_example() -> None:
    example = yaml.safe_load(re.search(r"```yaml\n(apiVersion.*?)```", _README, re.DOTALL)[1])  # type: ignore[index]

    assert example == yaml.safe_load((ROOT / "examples" / "license-manager.yaml").read_text())


def test_pod_is_the_example() -> None:
    example = re.search(r"```yaml\n(  containers:.*?)```", _README, re.DOTALL)[1]  # type: ignore[index]

    assert example in (ROOT / "examples" / "pod.yaml").read_text()
