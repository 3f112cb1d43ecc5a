"""What every test may ask for: a real Kubernetes."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.controlplane import ControlPlane


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `cluster` what uses the control plane, as `node` what uses a node, before `-m` chooses."""
    for item in items:
        for fixture, mark in (("plane", pytest.mark.cluster), ("node", pytest.mark.node)):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def plane(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One control plane for the whole session: tests keep apart by namespaces."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with ExitStack() as stack:
        with capture.global_and_fixture_disabled():  # a first build takes minutes and tells so on stderr
            started = stack.enter_context(ControlPlane.started(tmp_path_factory.mktemp("plane")))
        yield started
