"""Fixtures of the tests on a node: the node, the emulator for its pods, and Keyturn installed by Helm."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.cluster.namespace import NamespaceOf
from tests.support.emulator.client import Emulator
from tests.support.node import Node, UnfitError, require_node_support
from tests.support.node.release import Release


@pytest.fixture(scope="session")
def node_support() -> None:
    """Skip tests on machines that cannot run a node."""
    try:
        require_node_support()
    except UnfitError as error:
        pytest.skip(f"no node can be started here: {error}")


@pytest.fixture(scope="session")
def node(node_support: None, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for the whole session; tests use their own namespaces."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with ExitStack() as stack:
        with capture.global_and_fixture_disabled():  # the first build takes minutes and logs its progress
            node = stack.enter_context(Node.started(tmp_path_factory.mktemp("node")))
        yield node


@pytest.fixture
def aws(shared_emulator: Emulator) -> Emulator:
    """The shared_emulator, with sessions of 14 s."""
    shared_emulator.reset()
    shared_emulator.settings(session_seconds=14)
    return shared_emulator


@pytest.fixture(scope="session")
def endpoint(node: Node, shared_emulator: Emulator) -> str:
    """The emulator's URL for pods."""
    return node.forward(shared_emulator.url)


@pytest.fixture(scope="session")
def release(node: Node, endpoint: str) -> Release:
    """Keyturn for the whole cluster, installed by Helm."""
    release = Release(node, endpoint)
    release.install()
    return release


@pytest.fixture
def namespace(node: Node, release: Release) -> Iterator[NamespaceOf[Node]]:
    """A new namespace, without pods and TokenRequests after the test."""
    namespace = NamespaceOf.create(node)
    yield namespace
    namespace.kubectl("delete", "pods", "--all", "--now", "--wait=false")
    namespace.kubectl("delete", "tokenrequests", "--all")
