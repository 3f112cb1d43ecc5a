"""python -m tests.support.controlplane build | run."""

import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.support.controlplane.build import PROGRAMS, binary
from tests.support.controlplane.plane import ControlPlane


def build() -> None:
    for name in PROGRAMS:
        print(binary(name))


def run() -> None:
    """Start one and wait for Ctrl-C, or for a `kill`, which then stops it as well."""
    for end in (signal.SIGINT, signal.SIGTERM):  # a shell's background job would ignore the first
        signal.signal(end, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory() as directory,
        ControlPlane.started(Path(directory)) as plane,
    ):
        print(f"export KUBECONFIG={plane.kubeconfig}", flush=True)
        signal.pause()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["build"]:
            build()
        case ["run"]:
            run()
        case _:
            sys.exit(__doc__)
