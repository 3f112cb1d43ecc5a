"""Fixtures of the cluster tests: AWS, namespaces and operators that run with the chart's service account."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster.api_proxy import ApiProxy
from tests.support.cluster.crd import install_rights
from tests.support.cluster.leadership import start
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.emulator.fixtures import aws, shared_emulator

__all__ = ["aws", "shared_emulator", "start"]


@pytest.fixture(scope="session")
def installed(plane: ControlPlane) -> ControlPlane:
    """The control plane with the chart's CRD and RBAC."""
    install_rights(plane)
    return plane


@pytest.fixture
def namespace(installed: ControlPlane) -> Iterator[Namespace]:
    """A new namespace. Its TokenRequests are deleted after the test, so that they cause no calls in the next one."""
    namespace = Namespace.create(installed)
    yield namespace
    namespace.kubectl("delete", "tokenrequests", "--all")


def delete_requests(plane: ControlPlane) -> None:
    """Delete what earlier files left in their own namespaces: an operator that watches all would renew it."""
    plane.kubectl("delete", "tokenrequests", "--all", "--all-namespaces")


@pytest.fixture(scope="module")
def shared_operator(
    installed: ControlPlane, shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """One operator for all tests of a file, which must not stop it.

    It watches all namespaces: a file uses either this operator or its own operators, never both.
    """
    delete_requests(installed)
    with running_operator(installed, shared_emulator, tmp_path_factory.mktemp("operator")) as operator:
        yield operator
        assert "internal error" not in operator.log()


@pytest.fixture(scope="module")
def loopback_operator(
    installed: ControlPlane, shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """The same, allowed to call issuers on loopback."""
    delete_requests(installed)
    directory = tmp_path_factory.mktemp("operator")
    with running_operator(installed, shared_emulator, directory, settings=LOOPBACK) as operator:
        yield operator
        assert "internal error" not in operator.log()


@pytest.fixture
def operator(shared_operator: Operator, aws: Emulator) -> Operator:
    """The shared operator, with an AWS without faults."""
    return shared_operator


@pytest.fixture
def own_operator(installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path) -> Iterator[Operator]:
    """An operator for this test and its namespace only: the test may stop it. It may call issuers on loopback."""
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, settings=LOOPBACK) as operator:
        yield operator
        assert "internal error" not in operator.log()


@pytest.fixture
def api_proxy(installed: ControlPlane) -> Iterator[ApiProxy]:
    """A proxy in front of the API server that can inject faults."""
    with ApiProxy.running(installed) as proxy:
        yield proxy
