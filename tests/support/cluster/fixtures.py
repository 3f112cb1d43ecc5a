"""Fixtures of the cluster tests: the emulator, and an operator that runs as its own service account."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cluster.chart import RIGHTS, chart_objects
from tests.support.cluster.interposer import Interposer
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.emulator.fixtures import aws, shared_emulator

__all__ = ["aws", "shared_emulator"]


@pytest.fixture(scope="session")
def installed(plane: ControlPlane) -> ControlPlane:
    """The control plane with the CRD and the rights of the chart."""
    plane.kubectl("create", "namespace", "keyturn")
    plane.kubectl("apply", "-f", "-", stdin=chart_objects(only=RIGHTS))
    plane.kubectl("wait", "--for=condition=Established", "crd/tokenrequests.keyturn.dev", "--timeout=30s")
    return plane


@pytest.fixture
def namespace(installed: ControlPlane) -> Iterator[Namespace]:
    """A fresh namespace; its TokenRequests go with the test, so that none makes calls that the next one counts."""
    namespace = Namespace.created(installed)
    yield namespace
    namespace.kubectl("delete", "tokenrequests", "--all")


@pytest.fixture(scope="module")
def shared_operator(
    installed: ControlPlane, shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """One operator for the tests of a file, none of which stops it.

    It works in all namespaces: a file uses this one or operators of its own, never both.
    """
    with running_operator(installed, shared_emulator, tmp_path_factory.mktemp("operator")) as operator:
        yield operator
        assert "a bug" not in operator.log()


@pytest.fixture(scope="module")
def loopback_operator(
    installed: ControlPlane, shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """The same, one that may speak to issuers on loopback."""
    directory = tmp_path_factory.mktemp("operator")
    with running_operator(installed, shared_emulator, directory, settings=LOOPBACK) as operator:
        yield operator
        assert "a bug" not in operator.log()


@pytest.fixture
def operator(shared_operator: Operator, aws: Emulator) -> Operator:
    """A running operator, against an AWS without faults."""
    return shared_operator


@pytest.fixture
def own_operator(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path
) -> Iterator[Operator]:
    """An operator of the test's own, for its namespace only, with a Lease of its own: it may be killed."""
    with ExitStack() as stack:
        yield stack.enter_context(running_operator(installed, aws, tmp_path, namespace=namespace.name))


@pytest.fixture
def between(installed: ControlPlane) -> Iterator[Interposer]:
    """What can fail between an operator and the API server."""
    with Interposer.before(installed) as interposer:
        yield interposer
