"""A server of the control plane as a process that can be stopped, frozen and started again."""

import signal
import subprocess
from pathlib import Path

from tests.support.controlplane.parent_death import die_with_parent

PATIENCE_SECONDS = 2  # an API server would wait a minute for its open watches, etcd for its clients


class ServerExitedError(RuntimeError):
    """A server ended that should run; the message ends with its log."""


class Server:
    """One server: its command, its log, and the process once it is started."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches us alone and we stop all in order."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                die_with_parent(self._command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise ServerExitedError if it has ended, though nobody stopped it."""
        if self._process and self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-3000:]
            raise ServerExitedError(
                f"{self.name} ended with status {self._process.returncode}. {self._log} ends:\n{tail}"
            )

    def stop(self) -> None:
        """Ask it to end, then make it end; nothing happens where it does not run."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop its clock: it keeps its connections and answers nobody."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerExitedError(f"{self.name} does not run")
        return self._process
