"""Run a program that dies with the process that started it.

`python with_parent.py PARENT PROGRAM ARGUMENT...` becomes that program, under the same process id. A test run
that is ended by `kill -9` cannot stop its servers; Linux then does it. Elsewhere they stay.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent(command: list[str]) -> list[str]:
    """Change a command so that its process is killed when the thread that started it ends."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-IS", str(Path(__file__)), str(os.getpid()), *command]


def main(parent: str, *command: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that ended before the line above will never be noticed by it.
    if os.getppid() == int(parent):
        os.execvp(command[0], command)  # noqa: S606 - becoming the program is the point


if __name__ == "__main__":
    main(*sys.argv[1:])
