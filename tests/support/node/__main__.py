"""python -m tests.support.node build | run."""

import sys

from tests.support.controlplane import binary
from tests.support.controlplane.build import NODE_PROGRAMS
from tests.support.controlplane.cluster import run_until_interrupted
from tests.support.node import Node, UnfitError, require_node_support
from tests.support.node.images import imported_images
from tests.support.node.machine import packages

if __name__ == "__main__":
    try:
        require_node_support()
    except UnfitError as error:
        print(f"No node can be started here: {error}", file=sys.stderr)
        sys.exit(sys.argv[1:] != ["build"])
    match sys.argv[1:]:
        case ["build"]:
            print(*(binary(name) for name in NODE_PROGRAMS), packages(), sep="\n")
            with imported_images() as images:
                print(images)
        case ["run"]:
            run_until_interrupted(Node.started)
        case _:
            sys.exit(__doc__)
