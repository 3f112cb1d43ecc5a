"""Installations of the chart that overlap, each with its own namespace, rights and short-lived scope Leases.

`python -m tests.support.cluster.scope ...` runs `python -m keyturn ...` with HOLD_SECONDS instead of two minutes.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyturn import cli
from keyturn.controller import app
from tests.support.cluster.chart import chart_objects
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator

HOLD_SECONDS = 4
# Two holds until the Lease counts as expired, and the wait after a namespace was taken from a cluster-wide one.
TAKEN_OVER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Installation:
    """A release of the chart in a namespace of the same name, without a process. It may call issuers on loopback."""

    plane: ControlPlane
    aws: Emulator
    name: str
    directory: Path
    namespaces: tuple[str, ...]

    @contextmanager
    def running(self) -> Iterator[Operator]:
        flags = ("--no-leader-elect", f"--lease-namespace={self.name}", f"--lease-name={self.name}")
        with running_operator(
            self.plane,
            self.aws,
            self.directory,
            account=(self.name, self.name),
            flags=(*flags, *(f"--watch-namespace={name}" for name in self.namespaces)),
            program=("-m", "tests.support.cluster.scope"),
            settings=LOOPBACK,
        ) as operator:
            yield operator


@contextmanager
def installed_release(
    plane: ControlPlane, aws: Emulator, name: str, directory: Path, namespaces: tuple[str, ...]
) -> Iterator[Installation]:
    """Create what the chart creates for a release, but for the CRD; `name` must contain "keyturn"."""
    directory.mkdir()
    values = {"watchNamespaces": list(namespaces), "leaderElect": False}
    objects = chart_objects(values, release=name, namespace=name, only=("serviceaccount", "rbac"))
    plane.kubectl("create", "namespace", name)
    plane.kubectl("apply", "-f", "-", stdin=objects)
    try:
        yield Installation(plane, aws, name, directory, namespaces)
    finally:
        plane.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=objects)
        plane.kubectl("delete", "namespace", name, "--wait=false")


def scope_lease(name: str, kind: str, *, holder: str | None, user: str = "") -> dict[str, Any]:
    metadata = {"name": name, "labels": {"keyturn.dev/scope": kind}, "annotations": {"keyturn.dev/user": user}}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    return body | {"spec": {"holderIdentity": holder, "acquireTime": "1970-01-01T00:00:00.000000Z"}}


if __name__ == "__main__":
    # The module of a command, which imports the class, is imported when the command is called.
    app.Operator = functools.partial(app.Operator, hold_seconds=HOLD_SECONDS)  # type: ignore[assignment,misc]
    cli.main()
