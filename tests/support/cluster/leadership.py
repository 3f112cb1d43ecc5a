"""Operators that run with leader election, their Lease, and which of them holds it."""

import json
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cluster.operator import LOOPBACK, Cluster, Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

Start = Callable[[Cluster], Operator]


@pytest.fixture
def start(installed: ControlPlane, aws: Emulator, tmp_path: Path) -> Iterator[Start]:
    """Start operators that share the chart's Lease: the first one leads. They may call issuers on loopback."""
    operators: list[Operator] = []
    with ExitStack() as stack:

        def start_operator(cluster: Cluster) -> Operator:
            directory = tmp_path / str(len(operators))
            directory.mkdir()
            operator = stack.enter_context(running_operator(cluster, aws, directory, settings=LOOPBACK))
            stack.callback(operator.thaw)  # before it is stopped
            until(lambda: is_ready(operator) if operators else is_leader(operator))
            operators.append(operator)
            return operator

        yield start_operator
        patch_lease(installed, holderIdentity=None)


def patch_lease(plane: ControlPlane, **spec: object) -> None:
    """Change the spec of the Lease; None removes a field."""
    patch = json.dumps({"spec": spec})
    plane.kubectl("--namespace", "keyturn", "patch", "lease", "keyturn", "--type=merge", "--patch", patch)


def lease_holder(plane: ControlPlane) -> str:
    """Return the holder of the Lease, empty if it was released."""
    return plane.kubectl(
        "--namespace", "keyturn", "get", "lease", "keyturn", "--output=jsonpath={.spec.holderIdentity}"
    )


def is_leader(operator: Operator) -> bool:
    return operator.metric("keyturn_leader") == 1


def is_ready(operator: Operator) -> bool:
    try:
        return operator.get("/readyz") == "ok\n"
    except urllib.error.HTTPError:
        return False
