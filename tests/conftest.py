"""The control plane and the cluster's fixtures, for all tests."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings

from tests.support.controlplane import ControlPlane

pytest_plugins = ["tests.support.cluster.fixtures"]

# How long an example takes depends on what else the machine does.
settings.register_profile("keyturn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("keyturn")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that use the control plane or a node, before `-m` selects."""
    for item in items:
        for fixture, mark in (("plane", pytest.mark.cluster), ("node", pytest.mark.node)):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def plane(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One control plane for the whole session; each test has its own namespace."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with ExitStack() as stack:
        with capture.global_and_fixture_disabled():  # the first build takes minutes and reports its progress on stderr
            started = stack.enter_context(ControlPlane.started(tmp_path_factory.mktemp("plane")))
        yield started
