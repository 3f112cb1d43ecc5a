"""The sidecar as a process of its own."""

import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.controlplane import dies_with_us

_ROOT = Path(__file__).parents[2]
_LISTENING = re.compile(r"giving credentials on (\S+:\d+)(?:.|\n)*?listening on (\S+:\d+)")


@dataclass(slots=True)
class Sidecar:
    """A running sidecar: its process, its log, where it gives credentials and where its probes are."""

    arguments: list[str]
    log_file: Path
    credentials: str = ""
    probes: str = ""
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it, again after a kill on the same ports; the log goes on."""
        before = len(_LISTENING.findall(self.log()))
        self.spawn()
        deadline = time.monotonic() + 30
        while len(found := _LISTENING.findall(self.log())) <= before:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the sidecar did not start:\n{self.log()[-2000:]}")
            time.sleep(0.01)
        self.credentials, self.probes = found[-1]

    def spawn(self) -> None:
        """Start it without waiting for anything."""
        at = self.credentials or "127.0.0.1:0", self.probes or "127.0.0.1:0"
        flags = [*self.arguments, f"--listen={at[0]}", f"--probes-listen={at[1]}"]
        with self.log_file.open("ab") as log:
            command = dies_with_us([sys.executable, "-m", "keyturn", "sidecar", *flags])
            self.process = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as the kernel does when memory is short."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it as the kubelet does, or by another signal; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=10)

    def log(self) -> str:
        """Read all that it has logged."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def get(self, path: str) -> tuple[int, str]:
        """GET a path of its probes: status and text."""
        return http_get(f"http://{self.probes}{path}")

    def ask(self, token: str) -> tuple[int, str]:
        """Ask for credentials: status and text."""
        return http_get(f"http://{self.credentials}/", Authorization=token)

    def metric(self, sample: str) -> float | None:
        """Read one sample of /metrics by its name with labels, as exposed."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        return None


def http_get(url: str, **headers: str) -> tuple[int, str]:
    """GET a URL: status and text."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@contextmanager
def running_sidecar(directory: Path, *arguments: str) -> Iterator[Sidecar]:
    """Start one on free ports of loopback, its log in the directory; stop it at the end."""
    sidecar = Sidecar([*arguments, "--log-level=debug"], directory / "sidecar.log")
    sidecar.start()
    try:
        yield sidecar
    finally:
        if sidecar.process.poll() is None:
            sidecar.stop()
