"""Each command of the README is run, in its order, as it stands there."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.cluster.operator import running_operator
from tests.support.cluster.page import ROOT, blocks, run
from tests.support.controlplane import ControlPlane, binary
from tests.support.emulator.client import Emulator

_README = (ROOT / "README.md").read_text()
_BLOCKS = blocks("README.md")
_MAKE = [block.strip() for block in _BLOCKS if block.startswith("make")]
_CLUSTER = [line for block in _BLOCKS if not block.startswith("make") for line in block.splitlines()]


@pytest.fixture
def own_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane that nothing was installed on."""
    (tmp_path / "plane").mkdir()
    with ControlPlane.started(tmp_path / "plane") as plane:
        yield plane


def test_the_commands_for_a_cluster(own_plane: ControlPlane, aws: Emulator, tmp_path: Path) -> None:
    path = os.pathsep.join({str(binary(name).parent) for name in ("helm", "kubectl")} | {os.environ["PATH"]})
    variables = os.environ | {
        "PATH": path,
        "KUBECONFIG": str(own_plane.kubeconfig),
        "LICENSE_TOKEN": aws.refresh_token(),
    }

    run(_CLUSTER[0], variables)
    assert _CLUSTER[0].startswith("helm install")
    # No node runs the Deployment here: the operator runs beside it, as the service account that Helm made.
    with running_operator(own_plane, aws, tmp_path):
        shown = [run(command, variables) for command in _CLUSTER[1:]]

    assert any("acme-billing" in text and "True" in text and "Issued" in text for text in shown)


def shown_by_demo(**variables: str) -> str:
    command = re.search(r"`(make demo ONCE=1)`", _README)
    assert command
    done = subprocess.run(
        command[1].split(),
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_make_demo_shows_two_renewals_and_ends_by_itself() -> None:
    shown = shown_by_demo()

    assert _MAKE == ["make demo", "make test"]
    assert shown.count("assumed-role/LicenseConsumer/keyturn-demo.acme-billing until") == 2
    assert " Issued " in shown
    assert 'keyturn_credentials_expiration_timestamp_seconds{name="acme-billing"' in shown


def test_make_demo_uses_your_cluster_and_leaves_nothing_in_it(own_plane: ControlPlane) -> None:
    shown = shown_by_demo(KUBECONFIG_DEMO=str(own_plane.kubeconfig))
    own_plane.kubectl("wait", "--for=delete", "namespace/keyturn-demo", "--timeout=60s")

    assert shown.count("assumed-role/LicenseConsumer/keyturn-demo.acme-billing until") == 2
    assert own_plane.kubectl("get", "crd", "--ignore-not-found") == ""


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "exec make test"


def test_the_manifest_is_the_example() -> None:
    shown = yaml.safe_load(re.search(r"```yaml\n(apiVersion.*?)```", _README, re.DOTALL)[1])  # type: ignore[index]

    assert shown == yaml.safe_load((ROOT / "examples" / "license-manager.yaml").read_text())


def test_the_pod_is_the_example() -> None:
    shown = re.search(r"```yaml\n(  containers:.*?)```", _README, re.DOTALL)[1]  # type: ignore[index]

    assert shown in (ROOT / "examples" / "pod.yaml").read_text()
