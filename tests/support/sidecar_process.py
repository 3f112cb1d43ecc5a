"""Runs the sidecar as a separate process, with the volumes of its pod."""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.kubelet_mount import mount_credentials
from tests.support.processes import RestartableProcess, http_get, sample

_LISTENING = re.compile(r"serving credentials on (\S+:\d+)(?:.|\n)*?serving probes and metrics on (\S+:\d+)")
_FREE_PORTS = ["--listen=127.0.0.1:0", "--http-bind-address=127.0.0.1:0"]


@dataclass(slots=True)
class Sidecar(RestartableProcess):
    """A sidecar process, with its log and the addresses of its endpoint and its probes."""

    credentials: str = ""
    probes: str = ""

    @classmethod
    def create(cls, log_file: Path, *arguments: str) -> "Sidecar":
        """Create a sidecar with these arguments that will listen on free ports of loopback."""
        return cls([sys.executable, "-m", "keyturn", "sidecar", *arguments, *_FREE_PORTS], log_file)

    def start(self) -> None:
        """Start the process; after a restart, it listens on the same ports and appends to the same log."""
        self.credentials, self.probes = self.launch(_LISTENING)
        self.command[-2:] = [f"--listen={self.credentials}", f"--http-bind-address={self.probes}"]

    def get(self, path: str) -> tuple[int, str]:
        """GET a path on the probes' port; return status and body."""
        return http_get(f"http://{self.probes}{path}")

    def get_credentials(self, token: str) -> tuple[int, str]:
        return http_get(f"http://{self.credentials}/", Authorization=token)

    def metric(self, name: str) -> float | None:
        """Read one sample of /metrics by its name with labels, as exposed."""
        return sample(self.get("/metrics")[1], name)


@contextmanager
def running_sidecar(directory: Path, *arguments: str) -> Iterator[Sidecar]:
    """Start a sidecar on free ports of loopback, with its log in the directory, and stop it at the end."""
    sidecar = Sidecar.create(directory / "sidecar.log", *arguments, "--log-level=debug")
    sidecar.start()
    try:
        yield sidecar
    finally:
        if sidecar.process.poll() is None:
            sidecar.stop()


@dataclass(slots=True)
class ReaderPod:
    """The volumes of a pod, and the sidecar in reader mode that serves them."""

    directory: Path
    sidecar: Sidecar

    @property
    def secret(self) -> Path:
        return self.directory / "secret"

    @property
    def token_file(self) -> Path:
        return self.directory / "token"

    @property
    def token(self) -> str:
        return self.token_file.read_text()

    def mount(self, number: int, minutes: float = 10) -> None:
        """Mount the credentials with this number. With ten minutes left, boto3 calls the endpoint each time."""
        mount_credentials(self.secret, number, minutes)

    def response(self) -> str:
        """Return the access key ID that the endpoint serves, or the message of its error."""
        fields = json.loads(self.sidecar.get_credentials(self.token)[1])
        text: str = fields.get("AccessKeyId") or fields["message"]
        return text

    def wait_for_response(self, expected: str, seconds: float = 3) -> None:
        deadline = time.monotonic() + seconds
        while expected not in (response := self.response()):
            assert time.monotonic() < deadline, response
            time.sleep(0.05)


def reader_flags(directory: Path) -> list[str]:
    return [f"--secret-dir={directory / 'secret'}", f"--authorization-file={directory / 'token'}"]
