"""python -m tests.support.controlplane build | run."""

import sys

from tests.support.controlplane.build import PROGRAMS, binary
from tests.support.controlplane.cluster import run_until_interrupted
from tests.support.controlplane.plane import ControlPlane

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["build"]:
            print(*(binary(name) for name in PROGRAMS), sep="\n")
        case ["run"]:
            run_until_interrupted(ControlPlane.started)
        case _:
            sys.exit(__doc__)
