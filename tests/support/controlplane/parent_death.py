"""Runs a program that is killed when its parent process ends.

`python parent_death.py PARENT PROGRAM ARGUMENT...` becomes that program under the same process ID. A test run that
is ended by `kill -9` cannot stop its servers; on Linux the kernel then does.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent(command: list[str]) -> list[str]:
    """Return a command whose process is killed when the thread that started it ends; unchanged except on Linux."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-IS", str(Path(__file__)), str(os.getpid()), *command]


def main(parent: str, *command: str) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The kernel sends no signal if the parent ended before the call above.
    if os.getppid() == int(parent):
        os.execvp(command[0], command)  # noqa: S606 - it replaces this process


if __name__ == "__main__":
    main(*sys.argv[1:])
