"""A folder with all that standalone mode is given, and the process that works there."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import yaml

from keyturn.api.token_request import RENEW_REQUESTED
from tests.support.cluster.namespace import token_request
from tests.support.controlplane import die_with_parent
from tests.support.emulator.client import Emulator, endpoints
from tests.support.emulator.constants import CLIENT_ID, CLIENT_SECRET, OIDC_ROLE_ARN
from tests.support.mounts import put
from tests.support.sidecar_process import Sidecar

_ROOT = Path(__file__).parents[2]
REFRESH_TOKEN = "refresh_token"
_FLAGS = {
    "sources": "--sources-dir",
    "write": "--output-dir",
    "state": "--state-dir",
    "service-account-token": "--service-account-token-file",
}


@dataclass(slots=True)
class Place:
    """The folder: r.yaml, settings.yaml, sources, write, state, token (the authorization)."""

    path: Path
    aws: Emulator
    log_file: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log_file = self.path / "log"
        settings = {
            "aws": {"endpoints": endpoints(self.aws.url)},
            "renewal": {"minIntervalSeconds": 1},
            "issuers": {"allowedPrivateNetworks": ["127.0.0.0/8"]},
            "sources": {"audiences": [CLIENT_ID]},
        }
        (self.path / "settings.yaml").write_text(yaml.safe_dump(settings))
        (self.path / "sources").mkdir()

    def say(self, body: dict[str, Any] | None = None, **spec: Any) -> None:
        """Write the manifest at once, as an editor does: the flagship TokenRequest, or another."""
        new = self.path / "r.yaml.new"
        new.write_text(yaml.safe_dump(body or token_request(**spec)))
        new.replace(self.path / "r.yaml")

    def put(self, name: str, **keys: str) -> None:
        """Put a Secret among the sources."""
        put(self.path / "sources", name, **keys)

    def flagship(self, **spec: Any) -> None:
        """The manifest and the license."""
        self.say(**spec)
        self.put("license", license_token=self.aws.refresh_token())

    def rotating(self, **spec: Any) -> str:
        """The manifest and the sources of a token that its issuer replaces; returns the first one."""
        self.say(**rotating(self.aws, **spec))
        seed = self.aws.oauth_refresh_token()
        self.put("source", refresh_token=seed)
        self.put("client", secret=CLIENT_SECRET, ca=self.aws.ca)
        return seed

    def flags(self, *places: str) -> list[str]:
        """What every command is told, and folders by their names."""
        given = [f"--filename={self.path / 'r.yaml'}", f"--config={self.path / 'settings.yaml'}"]
        given += [f"{_FLAGS[name]}={self.path / name}" for name in ("sources", *places)]
        return [*given, "--log-level=debug", "--log-format=json"]

    @contextmanager
    def running(self, *places: str) -> Iterator[Sidecar]:
        """A sidecar that works here; it is killed at the end if it still runs."""
        flags = [*self.flags(*places), f"--authorization-file={self.path / 'token'}"]
        sidecar = Sidecar.of(self.log_file, "--mode=standalone", *flags)
        sidecar.start()
        try:
            yield sidecar
        finally:
            if sidecar.process.poll() is None:
                sidecar.kill()

    def once(self, *places: str) -> "subprocess.CompletedProcess[str]":
        """Run keyturn run --once, for a text log."""
        return subprocess.run(self.job(*places), cwd=_ROOT, capture_output=True, text=True, check=False)

    def job(self, *places: str) -> list[str]:
        """The command of keyturn run --once."""
        flags = [it for it in self.flags("write", *places) if not it.startswith("--log")]
        return die_with_parent([sys.executable, "-m", "keyturn", "run", "--once", *flags])

    def ask(self, sidecar: Sidecar) -> tuple[int, str]:
        """Ask the endpoint, as an SDK does."""
        return sidecar.ask((self.path / "token").read_text())

    def written(self, name: str) -> str:
        """Read a file that was written for others."""
        return (self.path / "write" / name).read_text()


def rotating(aws: Emulator, **spec: Any) -> dict[str, Any]:
    """The spec of a request whose token is replaced by each use."""
    refresh = {
        "tokenUrl": f"{aws.issuer_url}/token",
        "grantType": "refresh_token",
        "clientId": CLIENT_ID,
        "clientSecretFrom": {"secretKeyRef": {"name": "client", "key": "secret"}},
        "caBundleFrom": {"secretKeyRef": {"name": "client", "key": "ca"}},
    }
    return {
        "source": {"token": {"secretKeyRef": {"name": "source", "key": REFRESH_TOKEN}}},
        "region": "us-east-1",
        "exchanges": [{"oauthToken": refresh}, {"assumeRoleWithWebIdentity": {"roleArn": OIDC_ROLE_ARN}}],
        "target": {"formats": [{"env": {}}, {"token": {}}]},
    } | spec


def asking_for(body: dict[str, Any], number: int) -> dict[str, Any]:
    """Ask for a renewal by the annotation, as kubectl annotate does."""
    body["metadata"]["annotations"] = {RENEW_REQUESTED: f"n{number}"}
    return body


def ready(sidecar: Sidecar) -> bool:
    """Whether something valid is held."""
    return sidecar.get("/readyz")[0] == 200


def renewals(sidecar: Sidecar) -> float:
    """How often it has exchanged, by its own count."""
    found = [line for line in sidecar.get("/metrics")[1].splitlines() if line.startswith("keyturn_renewals_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in found if 'result="success"' in line)


def who_am_i(aws: Emulator, session: boto3.Session) -> str:
    """Make a signed call, as the program in the pod does."""
    arn: str = session.client("sts", region_name="us-east-1", endpoint_url=aws.url).get_caller_identity()["Arn"]
    return arn
