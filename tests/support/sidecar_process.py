"""The sidecar as a process of its own."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import RestartableProcess, http_get, sample

_LISTENING = re.compile(r"giving credentials on (\S+:\d+)(?:.|\n)*?listening on (\S+:\d+)")
_FREE_PORTS = ["--listen=127.0.0.1:0", "--http-bind-address=127.0.0.1:0"]


@dataclass(slots=True)
class Sidecar(RestartableProcess):
    """A running sidecar: its process, its log, where it gives credentials and where its probes are."""

    credentials: str = ""
    probes: str = ""

    @classmethod
    def of(cls, log_file: Path, *arguments: str) -> "Sidecar":
        """Make one with these arguments, on free ports of loopback."""
        return cls([sys.executable, "-m", "keyturn", "sidecar", *arguments, *_FREE_PORTS], log_file)

    def start(self) -> None:
        """Start it, again after a kill on the same ports; the log goes on."""
        self.credentials, self.probes = self.launch(_LISTENING)
        self.command[-2:] = [f"--listen={self.credentials}", f"--http-bind-address={self.probes}"]

    def get(self, path: str) -> tuple[int, str]:
        """GET a path of its probes: status and text."""
        return http_get(f"http://{self.probes}{path}")

    def ask(self, token: str) -> tuple[int, str]:
        """Ask for credentials: status and text."""
        return http_get(f"http://{self.credentials}/", Authorization=token)

    def metric(self, name: str) -> float | None:
        """Read one sample of /metrics by its name with labels, as exposed."""
        return sample(self.get("/metrics")[1], name)


@contextmanager
def running_sidecar(directory: Path, *arguments: str) -> Iterator[Sidecar]:
    """Start one on free ports of loopback, its log in the directory; stop it at the end."""
    sidecar = Sidecar.of(directory / "sidecar.log", *arguments, "--log-level=debug")
    sidecar.start()
    try:
        yield sidecar
    finally:
        if sidecar.process.poll() is None:
            sidecar.stop()
