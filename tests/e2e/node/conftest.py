"""What tests on a node share: the node, an AWS that its pods reach, and a Keyturn that Helm installed."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.cluster.namespace import NamespaceOf
from tests.support.emulator.client import Emulator
from tests.support.emulator.fixtures import shared_emulator
from tests.support.node import Node, UnfitError, require_fitness
from tests.support.node.release import Release

__all__ = ["shared_emulator"]


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for the whole session: tests keep apart by namespaces."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with ExitStack() as stack:
        with capture.global_and_fixture_disabled():  # what is made for the first time takes minutes and tells so
            try:
                require_fitness()
            except UnfitError as error:
                pytest.skip(f"no node can be started here: {error}")
            started = stack.enter_context(Node.started(tmp_path_factory.mktemp("node")))
        yield started


@pytest.fixture
def aws(shared_emulator: Emulator) -> Emulator:
    """The AWS, with sessions of 20 s."""
    shared_emulator.reset()
    shared_emulator.settings(session_seconds=20)
    return shared_emulator


@pytest.fixture(scope="session")
def endpoint(node: Node, shared_emulator: Emulator) -> str:
    """The URL of the AWS for pods."""
    return node.forwarded(shared_emulator.url)


@pytest.fixture(scope="session")
def release(node: Node, endpoint: str) -> Release:
    """Keyturn for the whole cluster, installed by Helm."""
    release = Release(node, endpoint)
    release.install()
    return release


@pytest.fixture
def namespace(node: Node, release: Release) -> Iterator[NamespaceOf[Node]]:
    """A fresh namespace; its pods and TokenRequests go with the test."""
    namespace = NamespaceOf.created(node)
    yield namespace
    namespace.kubectl("delete", "pods", "--all", "--now", "--wait=false")
    namespace.kubectl("delete", "tokenrequests", "--all")
