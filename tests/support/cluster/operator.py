"""The operator as a process of its own, as the service account that the chart makes."""

import re
import signal
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from tests.support.emulator.client import Emulator, endpoints
from tests.support.processes import Running, sample

# It may speak to issuers on loopback.
LOOPBACK = {"issuers": {"privateNetworks": ["127.0.0.0/8"]}}
_LISTENING = re.compile(r"listening on ([0-9.]+:[0-9]+)")


class Cluster(Protocol):
    """Where an operator works, or what stands between."""

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig of an existing service account."""


@dataclass(slots=True)
class Operator(Running):
    """A running operator: its process, its log and its metrics."""

    address: str = ""

    def start(self) -> None:
        """Start it, again after a kill; the log goes on."""
        self.address = self.launch(_LISTENING)

    def freeze(self) -> None:
        """Stop its clock, as a node that is out of breath does; its connections stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def get(self, path: str) -> str:
        """GET a path of its health server."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
            found: str = answer.read().decode()
        return found

    def metric(self, name: str) -> float | None:
        """Read one sample of /metrics by its name with labels, as exposed."""
        return sample(self.get("/metrics"), name)


@contextmanager
def running_operator(  # noqa: PLR0913 - each is a choice of its own
    plane: Cluster,
    aws: Emulator,
    directory: Path,
    *,
    namespace: str = "",
    account: tuple[str, str] = ("keyturn", "keyturn"),
    flags: tuple[str, ...] = (),
    settings: dict[str, Any] | None = None,
    program: tuple[str, ...] = ("-m", "keyturn"),
) -> Iterator[Operator]:
    """Start an operator as the chart's service account; the emulator is its AWS.

    With a `namespace` it works only there and has a Lease of its own. Short lifetimes need a short least interval.
    `program` is what Python runs.
    """
    config = directory / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {"aws": {"endpoints": endpoints(aws.url)}, "renewal": {"leastIntervalSeconds": 1}} | (settings or {})
        )
    )
    kubeconfig = plane.service_account_kubeconfig(*account)
    command = [
        sys.executable, *program, "operator", f"--kubeconfig={kubeconfig}", f"--config={config}",
        "--probes-listen=127.0.0.1:0", "--lease-namespace=keyturn", "--log-level=debug", "--log-format=json",
        *((f"--namespace={namespace}", "--no-leader-elect") if namespace else ()), *flags,
    ]  # fmt: skip
    operator = Operator(command, directory / "operator.log")
    operator.start()
    try:
        yield operator
    finally:
        # By SIGTERM, which gives the Lease back: after a kill the next one would wait for its end.
        operator.stop()
