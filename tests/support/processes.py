"""keyturn as a process of its own, its log in a file."""

import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.support.controlplane import die_with_parent

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


@dataclass(slots=True)
class Running:
    """A process that is ended and started again; the log goes on."""

    command: list[str]
    log_file: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def launch(self, listening: re.Pattern[str]) -> Any:
        """Start it, wait until it says where it listens, and return that."""
        before = len(listening.findall(self.log()))
        self.spawn()
        deadline = time.monotonic() + 30
        while len(found := listening.findall(self.log())) <= before:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"it did not start:\n{self.log()[-2000:]}")
            time.sleep(0.01)
        return found[-1]

    def spawn(self) -> None:
        """Start it without waiting for anything."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(die_with_parent(self.command), cwd=ROOT, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as the kernel or a node's death does: kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it as the kubelet does, by SIGTERM, or by another signal; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def log(self) -> str:
        """Read all that it has logged."""
        return self.log_file.read_text() if self.log_file.exists() else ""


def until(what: Callable[[], T], *, seconds: float = 20, every: float = 0.1) -> T:
    """Wait until something is true and return it; the test fails with the last value if it never is."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {seconds} s")
        time.sleep(every)
    return value


def http_get(url: str, **headers: str) -> tuple[int, str]:
    """GET a URL: status and text."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def sample(exposed: str, name: str) -> float | None:
    """Find one sample of /metrics by its name with labels, as exposed."""
    for line in exposed.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return None
