"""keyturn login with a real OpenID provider, signed in by a browser without a window."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support import npm
from tests.support.browser import sign_in, use_browser
from tests.support.dependencies import manifest
from tests.support.disk import full, small_disk
from tests.support.emulator.oauth.client import basic_authorization, send
from tests.support.issuer.server import Issuer, running_issuer

pytestmark = pytest.mark.skipif(bool(npm.missing()), reason=npm.missing())
FORM_VALUES = {"login": "demo-user", "password": "secret"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as issuer:
        yield issuer


@dataclass(frozen=True, slots=True)
class Login:
    """`keyturn login` for a TokenRequest that refreshes a token of the issuer."""

    issuer: Issuer
    directory: Path

    def prepare(self) -> None:
        """Write the manifest and the sources."""
        client = self.directory / "sources" / "client"
        client.mkdir(parents=True)
        (client / "secret").write_text(self.issuer.client_secret)
        (client / "ca").write_text(self.issuer.ca)
        request = manifest(exchanges=[self.issuer.refresh_step("client")], target={"formats": [{"token": {}}]})
        (self.directory / "request.yaml").write_text(yaml.safe_dump(request))

    def start(self, *options: str, **environment: str) -> "subprocess.Popen[str]":
        """Start the command."""
        command = [sys.executable, "-m", "keyturn", "login", "-f", "request.yaml", "--sources-dir", "sources"]
        return subprocess.Popen(
            [*command, *options], cwd=self.directory, env=environment or None, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    @property
    def token(self) -> Path:
        return self.directory / "sources" / "license" / "license_token"


@pytest.fixture
def login(issuer: Issuer, tmp_path: Path) -> Login:
    login = Login(issuer, tmp_path)
    login.prepare()
    return login


def page_to_open(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Read the URL that the command prints."""
    assert process.stderr
    for line in process.stderr:
        if match := re.search(pattern, line):
            return match[1]
    raise AssertionError("no URL was printed")


@pytest.mark.parametrize(
    ("options", "pattern"),
    [(["--no-browser"], r"^(https://\S+)"), (["--device"], r"enter the code \S+, or open (\S+)")],
    ids=["browser", "device"],
)
def test_refresh_token_of_a_person_is_stored(login: Login, options: list[str], pattern: str) -> None:
    with login.start("--yes", *options) as process:
        sign_in(page_to_open(process, pattern), login.issuer.ca, FORM_VALUES)
        output, errors = process.communicate(timeout=30)
    token = login.token.read_text()
    form = {"grant_type": "refresh_token", "refresh_token": token}
    headers = basic_authorization(login.issuer.client_id, login.issuer.client_secret)

    assert (process.returncode, output) == (0, "sources/license/license_token written\n"), errors
    assert login.token.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in login.token.parent.iterdir()] == ["license_token"]
    assert token not in output + errors
    assert send(login.issuer.token_url, login.issuer.ca, form, headers).status == 200


def test_browser_is_opened(login: Login, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_browser(monkeypatch, tmp_path, login.issuer.ca, "demo-user", "secret")
    with login.start("--yes", "--timeout", "30") as process:
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    assert login.token.read_text()


def test_nothing_happens_without_consent(login: Login) -> None:
    with login.start() as process:
        _, errors = process.communicate("n\n", timeout=30)

    assert process.returncode == 1
    host = urlsplit(login.issuer.token_url).netloc
    assert f"Sign in at {host} and write sources/license/license_token?" in errors
    assert not login.token.parent.exists()


def test_nobody_signs_in_if_the_disk_is_full(login: Login) -> None:
    options = ("--yes", "--no-browser", "--timeout=2")
    with small_disk(login.token.parent) as disk, full(disk), login.start(*options) as process:
        output, errors = process.communicate(timeout=30)

    assert (process.returncode, output) == (1, "")
    assert errors == "Error: sources: No space left on device\n"


def test_certificate_of_an_unknown_issuer_is_named(login: Login) -> None:
    manifest = login.directory / "request.yaml"
    manifest.write_text(re.sub(r"(?m)^ *caBundleFrom:\n( +.*\n)+?(?= *clientId)", "", manifest.read_text()))
    with login.start("--yes") as process:
        _, errors = process.communicate(timeout=30)

    assert process.returncode == 1
    assert re.search(r"certificate is not trusted \(.*\); --ca-file adds a CA", errors)
    assert "Traceback" not in errors
