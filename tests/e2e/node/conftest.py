"""Fixtures of the tests on a node: the node, an AWS that its pods reach, and Keyturn installed by Helm."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.cluster.namespace import NamespaceOf
from tests.support.emulator.fixtures import emulator
from tests.support.emulator.running import Aws
from tests.support.node import Node, UnfitError, require_fitness
from tests.support.node.release import Release

__all__ = ["emulator"]


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for the whole session; each test has its own namespace."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with ExitStack() as stack:
        with capture.global_and_fixture_disabled():  # the first build takes minutes and reports its progress
            try:
                require_fitness()
            except UnfitError as error:
                pytest.skip(f"no node can be started here: {error}")
            started = stack.enter_context(Node.started(tmp_path_factory.mktemp("node")))
        yield started


@pytest.fixture
def aws(emulator: Aws) -> Aws:
    """AWS with sessions of 20 s."""
    emulator.reset()
    emulator.settings(session_seconds=20)
    return emulator


@pytest.fixture(scope="session")
def endpoint(node: Node, emulator: Aws) -> str:
    """The URL of AWS for pods."""
    return node.forwarded(emulator.url)


@pytest.fixture(scope="session")
def release(node: Node, endpoint: str) -> Release:
    """Keyturn, installed cluster-wide by Helm."""
    release = Release(node, endpoint)
    release.install()
    return release


@pytest.fixture
def namespace(node: Node, release: Release) -> Iterator[NamespaceOf[Node]]:
    """A new namespace; its pods and TokenRequests are deleted after the test."""
    namespace = NamespaceOf.create(node)
    yield namespace
    namespace.kubectl("delete", "pods", "--all", "--now", "--wait=false")
    namespace.kubectl("delete", "tokenrequests", "--all")
