"""Runs the operator as a process with the chart's service account."""

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
from tests.support.processes import RestartableProcess, sample

# Settings that allow issuers on loopback.
LOOPBACK = {"issuers": {"allowedPrivateNetworks": ["127.0.0.0/8"]}}
_LISTENING = re.compile(r"listening on ([0-9.]+:[0-9]+)")


class Cluster(Protocol):
    """A cluster, or a proxy in front of it."""

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig of an existing service account."""


@dataclass(slots=True)
class Operator(RestartableProcess):
    """A running operator: its process, its log and its metrics."""

    address: str = ""

    def start(self) -> None:
        """Start the operator, also after a kill; the log is appended to."""
        self.address = self.launch(_LISTENING)

    def freeze(self) -> None:
        """Suspend the process, as an overloaded node does; its connections stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as response:
            text: str = response.read().decode()
        return text

    def metric(self, name: str) -> float | None:
        """Return one sample of /metrics; `name` includes the labels, as exposed."""
        return sample(self.get("/metrics"), name)


@contextmanager
def running_operator(  # noqa: PLR0913 - they are independent
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
    """Start an operator with the chart's service account and the emulator as AWS.

    With `namespace` it watches only that namespace and needs no Lease. The minimum interval is a second because the
    sessions of tests are short. `program` are the arguments for Python.
    """
    config = directory / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {"aws": {"endpoints": endpoints(aws.url)}, "renewal": {"minIntervalSeconds": 1}} | (settings or {})
        )
    )
    kubeconfig = plane.service_account_kubeconfig(*account)
    command = [
        sys.executable, *program, "operator", f"--kubeconfig={kubeconfig}", f"--config={config}",
        "--http-bind-address=127.0.0.1:0", "--lease-namespace=keyturn", "--log-level=debug", "--log-format=json",
        *((f"--watch-namespace={namespace}", "--no-leader-elect") if namespace else ()), *flags,
    ]  # fmt: skip
    operator = Operator(command, directory / "operator.log")
    operator.start()
    try:
        yield operator
    finally:
        # SIGTERM releases the Lease; after a kill the next operator would have to wait until it expires.
        operator.stop()
