"""Each alert fires and resolves, and each panel has data, in a real Prometheus that scrapes real operators.

All tests share one scenario, because it takes a minute.
"""

import math
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster.alert_scenario import Scenario
from tests.support.cluster.namespace import Namespace
from tests.support.controlplane import ControlPlane
from tests.support.controlplane.configuration import free_ports
from tests.support.emulator.client import Emulator
from tests.support.prometheus.binaries import prometheus_binary
from tests.support.prometheus.dashboard import queries
from tests.support.prometheus.rules import ALERTS
from tests.support.prometheus.server import running_prometheus

VARIABLES = {"cluster": ".*", "namespace": "test-.*", "name": ".+", "__rate_interval": "10s"}


@pytest.fixture(scope="module")
def scenario(
    installed: ControlPlane, shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scenario]:
    """The scenario after its last phase."""
    directory, (first, second, _) = tmp_path_factory.mktemp("alerts"), free_ports()
    targets = {"a": f"127.0.0.1:{first}", "b": f"127.0.0.1:{second}"}
    shared_emulator.reset()
    namespace = Namespace.create(installed)
    with running_prometheus(directory, targets) as prometheus:
        yield from Scenario(prometheus, installed, namespace, shared_emulator, directory).run(*targets.values())
    namespace.kubectl("delete", "tokenrequests", "--all")


# KeyturnTokenUnsaved fires after five minutes; promtool tests it.
@pytest.mark.parametrize("alert", [alert for alert in ALERTS if alert != "KeyturnTokenUnsaved"])
def test_alert_fires(scenario: Scenario, alert: str) -> None:
    assert alert in scenario.prometheus.fired()


def test_no_alert_fires_without_a_problem(scenario: Scenario) -> None:
    phases = ("two replicas, one leader", "failures fixed", "clock corrected", "after a failover")

    assert scenario.unexpected == {phase: set() for phase in phases}


PANELS: list[Any] = [pytest.param(expression, id=title) for title, expression in queries(VARIABLES)]


@pytest.mark.parametrize("expression", PANELS)
def test_panel_has_data(scenario: Scenario, expression: str) -> None:
    assert any(map(math.isfinite, scenario.prometheus.history(expression, 300)))


def test_promtool_accepts_the_metrics(scenario: Scenario) -> None:
    command = [str(prometheus_binary("promtool")), "check", "metrics"]
    done = subprocess.run(command, input=scenario.metrics, capture_output=True, text=True, timeout=30, check=False)

    assert "keyturn_request_condition" in scenario.metrics
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
