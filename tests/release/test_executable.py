"""The executable of the kubectl plugin, from the archive for this platform."""

import hashlib
import json
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from keyturn import __version__
from keyturn.cli.kubectl import COMMANDS
from tests.support.dependencies import REFRESH, manifest
from tests.support.manifests.parts import secret_at
from tools.executable import PLATFORM, PROGRAM, archive_name
from tools.release import RELEASE

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plugin")
    with tarfile.open(RELEASE / archive_name(PLATFORM)) as archive:
        archive.extractall(directory, filter="data")
    return directory


@pytest.fixture
def run(directory: Path) -> Run:
    # PATH contains neither Python nor kubectl, except for the script that a test writes.
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(directory / PROGRAM), *arguments]
        variables = {"PATH": str(directory)}
        return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)

    return run


def replace_kubectl(directory: Path, script: str) -> None:
    kubectl = directory / "kubectl"
    kubectl.write_text(f"#!/bin/sh\n{script}\n")
    kubectl.chmod(0o755)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_starts(name: str, run: Run) -> None:
    ran = run(name, "--help")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"Usage: kubectl keyturn {name} ")


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["--version"], f"kubectl keyturn, version {__version__}\n"),
        (["check", "examples/license-manager.yaml"], "1 TokenRequest, 0 Pods checked: 0 errors, 0 warnings\n"),
        (["explain", "SourceConsumed"], "SourceConsumed"),
    ],
    ids=["version", "check", "explain"],
)
def test_command_needs_no_cluster(arguments: list[str], output: str, run: Run) -> None:
    ran = run(*arguments)

    assert ran.returncode == 0, ran.stderr
    assert output in ran.stdout + ran.stderr


def test_login_names_the_missing_extra(directory: Path, run: Run) -> None:
    client = {"clientAuthentication": "private_key_jwt", "clientKeyFrom": secret_at("client", "key")}
    # GitHub's endpoints are known, so that nothing is sent.
    issuer = {"tokenUrl": "https://github.com/login/oauth/access_token"}
    step = {"oauthToken": REFRESH["oauthToken"] | client | issuer}
    request = manifest(exchanges=[step], target={"formats": [{"token": {}}]})
    (directory / "request.json").write_text(json.dumps(request))
    replace_kubectl(directory, f"exec /bin/cat {directory}/request.json")
    ran = run("login", "acme", "--yes")

    assert (ran.returncode, ran.stdout) == (2, "")
    message = (
        r"Error: this command needs the module \w+, which is not installed; run pip install 'keyturn\[standalone\]'\n"
    )
    assert re.fullmatch(message, ran.stderr)


def test_kubectl_does_not_load_libraries_of_the_executable(directory: Path, run: Run) -> None:
    replace_kubectl(directory, 'echo "libraries: $LD_LIBRARY_PATH" >&2; exit 1')

    assert run("status").stderr == "Error: libraries: \n"


def test_manifest_and_checksums_match_the_archive(directory: Path) -> None:
    archive = RELEASE / archive_name(PLATFORM)
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    platforms = yaml.safe_load((RELEASE / "keyturn.yaml").read_text())["spec"]["platforms"]

    assert f"{sha256}  {archive.name}\n" in (RELEASE / "kubectl-keyturn.sha256").read_text()
    assert sha256 in [platform["sha256"] for platform in platforms]
    assert (directory / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
