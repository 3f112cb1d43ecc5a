"""Runs keyturn as a process that logs to a file, and waits for conditions."""

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
class RestartableProcess:
    """A process that can be stopped and started again; its log is appended to."""

    command: list[str]
    log_file: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def launch(self, listening: re.Pattern[str]) -> Any:
        """Start the process, wait until it logs its address, and return the address."""
        before = len(listening.findall(self.log()))
        self.spawn()
        deadline = time.monotonic() + 30
        while len(addresses := listening.findall(self.log())) <= before:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the process did not start:\n{self.log()[-2000:]}")
            time.sleep(0.01)
        return addresses[-1]

    def spawn(self) -> None:
        """Start the process without waiting."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(die_with_parent(self.command), cwd=ROOT, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill the process with SIGKILL, as the kernel does when memory runs out."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the process with SIGTERM, as the kubelet does, or another signal; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""


def until(condition: Callable[[], T], *, seconds: float = 20, every: float = 0.1) -> T:
    """Wait until the condition is true and return its value; the test fails with the last value after the timeout."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {seconds} s")
        time.sleep(every)
    return value


def http_get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def sample(exposed: str, name: str) -> float | None:
    """Return one sample of /metrics; `name` includes the labels, as exposed."""
    for line in exposed.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return None
