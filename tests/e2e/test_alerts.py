"""Each alert fires and resolves, and each panel has data, in a real Prometheus that scrapes real operators.

One story for all tests (alerts_story), since a Prometheus needs six seconds to begin.
"""

import math
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.prometheus.test_rules import ALERTS
from tests.support.cluster.alerts_story import Story, told
from tests.support.cluster.namespace import Namespace
from tests.support.controlplane import ControlPlane
from tests.support.controlplane.configuration import free_ports
from tests.support.emulator.client import Emulator
from tests.support.prometheus.binaries import prometheus_binary
from tests.support.prometheus.dashboard import queries
from tests.support.prometheus.server import running_prometheus

VARIABLES = {"namespace": "test-.*", "name": ".+", "__rate_interval": "10s"}


@pytest.fixture(scope="module")
def story(
    installed: ControlPlane, shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    """The story, at its end."""
    directory, (first, second, _) = tmp_path_factory.mktemp("alerts"), free_ports()
    targets = {"a": f"127.0.0.1:{first}", "b": f"127.0.0.1:{second}"}
    shared_emulator.reset()
    namespace = Namespace.created(installed)
    with running_prometheus(directory, targets) as prometheus:
        yield from told(Story(prometheus, installed, namespace, shared_emulator, directory), *targets.values())
    namespace.kubectl("delete", "tokenrequests", "--all")


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_fires(story: Story, alert: str) -> None:
    assert alert in story.prometheus.fired()


def test_alerts_resolve_and_two_replicas_raise_none(story: Story) -> None:
    assert story.wrong == {
        "two replicas, one leads": set(),
        "all is mended": set(),
        "the clock is right again": set(),
        "after a failover": set(),
    }


PANELS: list[Any] = [pytest.param(expression, id=title) for title, expression in queries(VARIABLES)]


@pytest.mark.parametrize("expression", PANELS)
def test_panel_has_data(story: Story, expression: str) -> None:
    assert any(map(math.isfinite, story.prometheus.history(expression, 300)))


def test_promtool_finds_the_metrics_well_formed(story: Story) -> None:
    command = [str(prometheus_binary("promtool")), "check", "metrics"]
    done = subprocess.run(command, input=story.metrics, capture_output=True, text=True, timeout=30, check=False)

    assert "keyturn_request_condition" in story.metrics
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
