"""The wheel, installed without extras in an environment of its own, and the source distribution."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import yaml
from packaging.metadata import Metadata

from keyturn import __version__
from keyturn.cli import COMMANDS
from keyturn.cli.kubectl import COMMANDS as KUBECTL_COMMANDS
from tests.support.dependencies import manifest
from tests.support.kubelet_mount import mount_credentials
from tests.support.manifests.parts import secret_at
from tests.support.manifests.tokens import center
from tests.support.processes import http_get
from tests.support.sidecar_process import Sidecar, reader_flags

ROOT = Path(__file__).parents[2]
DIST = ROOT / "build" / "dist"
PROGRAMS = Path(sys.executable).parent
MAX_BYTES = 15_000_000


@dataclass(frozen=True, slots=True)
class Installation:
    """An environment with the wheel."""

    directory: Path

    @property
    def programs(self) -> Path:
        return self.directory / "bin"

    def run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a program of the environment, with kubectl on the PATH."""
        variables = {"HOME": str(self.directory), "PATH": f"{self.programs}:{PROGRAMS}:{os.environ['PATH']}"}
        return subprocess.run(
            [program, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture(scope="module")
def wheel() -> Path:
    subprocess.run(["make", "dist"], cwd=ROOT, check=True, capture_output=True)
    return DIST / f"keyturn-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    directory = tmp_path_factory.mktemp("installation") / "venv"
    uv = str(PROGRAMS / "uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, directory], check=True)
    install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(directory)]
    subprocess.run([*install, "--constraint", "requirements/run.txt", wheel], cwd=ROOT, check=True)
    return Installation(directory)


def test_wheel_and_source_distribution_have_valid_metadata(wheel: Path) -> None:
    name = f"keyturn-{__version__}"
    with zipfile.ZipFile(wheel) as archive:
        of_wheel = archive.read(f"{name}.dist-info/METADATA")
    with tarfile.open(DIST / f"{name}.tar.gz") as archive:
        member = archive.extractfile(f"{name}/PKG-INFO")
        assert member
        of_source = member.read()
    metadata = Metadata.from_email(of_wheel, validate=True)

    assert of_source == of_wheel
    assert (metadata.name, str(metadata.version), metadata.license_expression) == ("keyturn", __version__, "Apache-2.0")
    assert metadata.provides_extra == ["operator", "standalone"]
    assert metadata.description_content_type == "text/markdown"


def test_installation_without_extras_is_small(installation: Installation) -> None:
    files = [path for path in installation.directory.rglob("*") if path.is_file() and not path.is_symlink()]
    metadata = {path.name.partition("-")[0] for path in installation.directory.rglob("*.dist-info")}

    assert metadata == {"click", "h11", "keyturn", "msgspec", "python_json_logger", "pyyaml"}
    assert sum(path.stat().st_size for path in files) < MAX_BYTES


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not command.extra])
def test_command_without_an_extra_starts(name: str, installation: Installation) -> None:
    ran = installation.run("keyturn", name, "--help")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"Usage: keyturn {name} ")


@pytest.mark.parametrize("name", KUBECTL_COMMANDS)
def test_command_of_the_plugin_starts(name: str, installation: Installation) -> None:
    ran = installation.run("kubectl", "keyturn", name, "--help")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"Usage: kubectl keyturn {name} ")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["operator"], "operator"),
        (["run", "--help"], "standalone"),
        (["sidecar", "--mode=standalone", "--filename=acme.yaml"], "standalone"),
    ],
    ids=["operator", "run", "sidecar in standalone mode"],
)
def test_command_names_its_missing_extra(arguments: list[str], extra: str, installation: Installation) -> None:
    ran = installation.run("keyturn", *arguments)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(
        rf"Error: this command needs the module \w+, which is not installed; run pip install 'keyturn\[{extra}\]'\n",
        ran.stderr,
    )


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["keyturn", "check", "examples/pod-injected.yaml", "examples/license-manager.yaml"], ""),
        (["keyturn", "crd"], (ROOT / "crds" / "keyturn.dev_tokenrequests.yaml").read_text()),
        (["keyturn", "inject", "-f", "examples/pod-injected.yaml"], "- sidecar\n"),
        (["kubectl", "keyturn", "explain", "SourceConsumed"], "SourceConsumed"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_command_needs_no_extra(arguments: list[str], output: str, installation: Installation) -> None:
    ran = installation.run(*arguments)

    assert ran.returncode == 0, ran.stderr
    assert output in ran.stdout


def test_sidecar_serves_a_mounted_secret(installation: Installation, tmp_path: Path) -> None:
    mount_credentials(tmp_path / "secret", 1)
    sidecar = Sidecar.create(tmp_path / "log", "--log-format=json", *reader_flags(tmp_path))
    sidecar.command[:3] = [str(installation.programs / "keyturn")]
    sidecar.start()
    url = f"--url=http://{sidecar.credentials}/"
    ran = installation.run("keyturn", "credential-process", url, f"--authorization-file={tmp_path / 'token'}")
    sidecar.stop()

    assert json.loads(ran.stdout)["AccessKeyId"] == "ASIA1"
    assert all(json.loads(line)["level"] == "INFO" for line in sidecar.log().splitlines())


def test_login_stores_a_code(installation: Installation, tmp_path: Path) -> None:
    source = {"credentials": {"secretRef": {"name": "base"}}}
    request = manifest(**center(codeVerifierFrom=secret_at("sign-in", "verifier")), source=source)
    (tmp_path / "request.yaml").write_text(yaml.safe_dump(request))
    command = [str(installation.programs / "keyturn"), "login", "-f", "request.yaml", "--sources-dir=sources", "--yes"]
    options = ["--no-browser", "--authorization-endpoint=https://issuer.example/authorize"]
    with subprocess.Popen([*command, *options], cwd=tmp_path, text=True, stderr=subprocess.PIPE) as process:
        assert process.stderr
        page = next(line for line in process.stderr if line.startswith("https://"))
        query = {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()}
        response = urlencode({"code": "c0de", "state": query["state"]})
        status, _ = http_get(f"{query['redirect_uri']}?{response}")

    assert (status, process.returncode) == (200, 0)
    assert (tmp_path / "sources" / "sign-in" / "code").read_text() == "c0de"
