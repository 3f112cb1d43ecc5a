"""Runs a standalone process with its files in a directory."""

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
class StandaloneDirectory:
    """The files: r.yaml, settings.yaml, sources, write, state, and token for the authorization."""

    path: Path
    aws: Emulator
    log_file: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log_file = self.path / "log"
        settings = {
            "aws": {"endpoints": endpoints(self.aws.url)},
            "renewal": {"minIntervalSeconds": 1},
            "issuers": {"allowedPrivateNetworks": ["127.0.0.0/8"]},
            "sources": {"audiences": [CLIENT_ID, self.aws.issuer_url]},
        }
        (self.path / "settings.yaml").write_text(yaml.safe_dump(settings))
        (self.path / "sources").mkdir()

    def write_manifest(self, body: dict[str, Any] | None = None, **spec: Any) -> None:
        """Replace the manifest atomically, as an editor does: the flagship TokenRequest by default."""
        new = self.path / "r.yaml.new"
        new.write_text(yaml.safe_dump(body or token_request(**spec)))
        new.replace(self.path / "r.yaml")

    def put_source(self, name: str, **keys: str) -> None:
        """Write the keys of a source Secret."""
        put(self.path / "sources", name, **keys)

    def write_flagship(self, **spec: Any) -> None:
        """Write the flagship manifest and its source."""
        self.write_manifest(**spec)
        self.put_source("license", license_token=self.aws.refresh_token())

    def write_rotating(self, **spec: Any) -> str:
        """Write a manifest whose issuer rotates the token, and its sources. Return the first token."""
        self.write_manifest(**rotating(self.aws, **spec))
        first_token = self.aws.oauth_refresh_token()
        self.put_source("source", refresh_token=first_token)
        self.put_source("client", secret=CLIENT_SECRET, ca=self.aws.ca)
        return first_token

    def flags(self, *places: str) -> list[str]:
        """Return the options that all commands need, and those for the named directories."""
        options = [f"--filename={self.path / 'r.yaml'}", f"--config={self.path / 'settings.yaml'}"]
        options += [f"{_FLAGS[name]}={self.path / name}" for name in ("sources", *places)]
        return [*options, "--log-level=debug", "--log-format=json"]

    @contextmanager
    def running(self, *places: str, clock: Path | None = None) -> Iterator[Sidecar]:
        """Start a sidecar, and kill it at the end if it is still running. `clock` is the file of a settable clock."""
        flags = [*self.flags(*places), f"--authorization-file={self.path / 'token'}"]
        sidecar = Sidecar.create(self.log_file, "--mode=standalone", *flags)
        if clock:
            sidecar.command[2:3] = ["tests.support.cluster.settable_clock", str(clock)]
        sidecar.start()
        try:
            yield sidecar
        finally:
            if sidecar.process.poll() is None:
                sidecar.kill()

    def run_once(self, *places: str) -> "subprocess.CompletedProcess[str]":
        """Run keyturn run --once, with a text log."""
        return subprocess.run(self.run_once_command(*places), cwd=_ROOT, capture_output=True, text=True, check=False)

    def run_once_command(self, *places: str) -> list[str]:
        flags = [it for it in self.flags("write", *places) if not it.startswith("--log")]
        return die_with_parent([sys.executable, "-m", "keyturn", "run", "--once", *flags])

    def get_credentials(self, sidecar: Sidecar) -> tuple[int, str]:
        """Request credentials as an SDK does; return the status and the body."""
        return sidecar.get_credentials((self.path / "token").read_text())

    def output(self, name: str) -> str:
        """Read a file in the output directory."""
        return (self.path / "write" / name).read_text()


def rotating(aws: Emulator, **spec: Any) -> dict[str, Any]:
    """Return the spec of a request whose issuer rotates the token."""
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


def with_renew_request(body: dict[str, Any], number: int) -> dict[str, Any]:
    """Set the annotation that requests a renewal, as kubectl annotate does."""
    body["metadata"]["annotations"] = {RENEW_REQUESTED: f"n{number}"}
    return body


def is_ready(sidecar: Sidecar) -> bool:
    """Whether valid credentials are available."""
    return sidecar.get("/readyz")[0] == 200


def renewals(sidecar: Sidecar) -> float:
    """Return the number of successful renewals according to the metrics."""
    samples = [line for line in sidecar.get("/metrics")[1].splitlines() if line.startswith("keyturn_renewals_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in samples if 'result="success"' in line)


def caller_arn(aws: Emulator, session: boto3.Session) -> str:
    arn: str = session.client("sts", region_name="us-east-1", endpoint_url=aws.url).get_caller_identity()["Arn"]
    return arn
