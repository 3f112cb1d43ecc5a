"""A server process that can be stopped, frozen and started again."""

import signal
import subprocess
from pathlib import Path

from tests.support.controlplane.parent_death import die_with_parent

_STOP_SECONDS = 2  # the API server would wait a minute for its watches, etcd for its clients


class ServerExitedError(RuntimeError):
    """A server exited unexpectedly; the message ends with the end of its log."""


class Server:
    """A server's command, its log, and its process once it is started."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self._name, self._command, self._log = name, command, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server in its own session: Ctrl-C must not reach it, so that servers are stopped in order."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                die_with_parent(self._command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def check(self) -> None:
        """Raise ServerExitedError if the server exited without being stopped."""
        if self._process and (status := self._process.poll()) is not None:
            tail = self._log.read_text(errors="replace")[-3000:]
            raise ServerExitedError(f"{self._name} exited with status {status}. The end of {self._log}:\n{tail}")

    def stop(self) -> None:
        """Terminate the server, then kill it if it does not end."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerExitedError(f"{self._name} does not run")
        return self._process.pid
