"""Yarn and Maven send the token of the formats npm and maven to the repository, and need no other one."""

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from keyturn.core.pipeline_values import PackageEndpoint, Token
from tests.support import npm
from tests.support.dependencies import NOW
from tests.support.pipeline_values import VALUES, rendered

YARN = Path(__file__).parents[1] / "support" / "yarn"
TOKEN = "planted.token=="
# A repository in a settings.xml comes before Central, which is unreachable behind this proxy.
NO_CENTRAL = ("-Dhttps.proxyHost=127.0.0.1", "-Dhttps.proxyPort=9")


@dataclass(frozen=True, slots=True)
class Repository:
    """An empty package repository, and the requests that it received: path and Authorization."""

    url: str
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def running_repository() -> Iterator[Repository]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization")
            repository.requests.append((self.path, authorization))
            self.send_response(404 if authorization else 401)
            # Maven authenticates only if it is asked to.
            self.send_header("WWW-Authenticate", 'Basic realm="main"')
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        repository = Repository(f"http://127.0.0.1:{server.server_address[1]}")
        Thread(target=server.serve_forever, daemon=True).start()
        yield repository
        server.shutdown()


def run(command: list[str], directory: Path, variables: dict[str, str]) -> None:
    """Run a package manager, which fails: the repository is empty."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), **variables}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, timeout=120, check=False)

    assert done.returncode != 0


def write_format(name: str, path: Path, url: str) -> None:
    endpoint = PackageEndpoint(name, "main", url)
    values = replace(VALUES, access_token=Token(TOKEN, NOW), package_endpoints=(endpoint,))
    path.write_text(rendered({name: {"key": "it"}}, values=values)["it"])


@pytest.mark.skipif(bool(npm.missing()), reason=npm.missing())
def test_yarn_1_sends_the_token_of_the_format_npm(tmp_path: Path) -> None:
    yarn = npm.installed("yarn", YARN) / "node_modules" / ".bin" / "yarn"
    (tmp_path / "package.json").write_text('{"dependencies": {"without-a-scope": "1.0.0"}}')
    with running_repository() as repository:
        write_format("npm", tmp_path / "npmrc", f"{repository.url}/npm/main/")
        variables = {"NPM_CONFIG_USERCONFIG": str(tmp_path / "npmrc"), "YARN_ALWAYS_AUTH": "true"}
        run([str(yarn), "install", "--non-interactive", "--cache-folder=cache"], tmp_path, variables)

    assert set(repository.requests) == {("/npm/main/without-a-scope", f"Bearer {TOKEN}")}


@pytest.mark.skipif(shutil.which("mvn") is None, reason="Maven is not installed")
def test_maven_requests_plugins_from_the_repository(tmp_path: Path) -> None:
    (tmp_path / "pom.xml").write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>a</groupId><artifactId>a</artifactId>"
        "<version>1</version></project>"
    )
    with running_repository() as repository:
        write_format("maven", tmp_path / "settings.xml", f"{repository.url}/maven/main/")
        options = ["--batch-mode", "--settings=settings.xml", "-Dmaven.repo.local=repository", *NO_CENTRAL]
        run(["mvn", *options, "package"], tmp_path, {})

    login = base64.b64encode(f"aws:{TOKEN}".encode()).decode()
    with_login = [path for path, authorization in repository.requests if authorization == f"Basic {login}"]
    assert any(path.startswith("/maven/main/org/apache/maven/plugins/") for path in with_login)
