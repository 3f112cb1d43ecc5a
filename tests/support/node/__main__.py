"""python -m tests.support.node build | run."""

import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.support.controlplane import binary
from tests.support.controlplane.build import NODE_PROGRAMS
from tests.support.node import Node, UnfitError, require_fitness
from tests.support.node.images import imported
from tests.support.node.machine import packages


def build() -> None:
    for name in NODE_PROGRAMS:
        print(binary(name))
    print(packages())
    with imported() as images:
        print(images)


def run() -> None:
    """Start one and wait for Ctrl-C, or for a `kill`, which then stops it as well."""
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory() as directory,
        Node.started(Path(directory)) as node,
    ):
        print(f"export KUBECONFIG={node.kubeconfig}", flush=True)
        signal.pause()


if __name__ == "__main__":
    try:
        require_fitness()
    except UnfitError as error:
        print(f"No node can be started here: {error}", file=sys.stderr)
        sys.exit(sys.argv[1:] != ["build"])
    match sys.argv[1:]:
        case ["build"]:
            build()
        case ["run"]:
            run()
        case _:
            sys.exit(__doc__)
