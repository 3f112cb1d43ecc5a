"""The API server, with the CRDs of prometheus-operator, accepts every field of what the chart gives to it."""

from collections.abc import Iterator

import pytest

from tests.support.cluster.chart import Values, chart_objects
from tests.support.controlplane import ControlPlane
from tests.support.prometheus.crds import KINDS, crd_files

RELABEL = [{"action": "labeldrop", "regex": "blue"}]
MONITOR = {
    "enabled": True,
    "interval": "7s",
    "scrapeTimeout": "7s",
    "relabelings": RELABEL,
    "metricRelabelings": RELABEL,
}
RULES = {"prometheusRule": {"enabled": True}, "grafanaDashboard": {"enabled": True}}
STRICT = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-")


@pytest.fixture(scope="module")
def monitored(installed: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane with these CRDs, which go again."""
    for path in crd_files():
        installed.kubectl("apply", "--server-side", "--filename", str(path))
    names = [f"crd/{kind}.monitoring.coreos.com" for kind in KINDS]
    installed.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    yield installed
    installed.kubectl("delete", "--wait=false", *names)


@pytest.mark.parametrize("monitor", ["serviceMonitor", "podMonitor"])
def test_accepted(monitored: ControlPlane, monitor: str) -> None:
    values: Values = {**RULES, monitor: MONITOR}
    answer = monitored.kubectl(
        *STRICT, stdin=chart_objects(values, only=["metrics", "prometheusrule", "dashboard"])
    )

    assert f"{monitor.lower()}.monitoring.coreos.com/keyturn" in answer
    assert "prometheusrule.monitoring.coreos.com/keyturn" in answer
    assert "configmap/keyturn-dashboard" in answer


def test_a_field_that_is_none_is_refused(monitored: ControlPlane) -> None:
    wrong = chart_objects({"podMonitor": MONITOR}, only=["metrics"]).replace("honorLabels:", "honourLabels:")

    with pytest.raises(RuntimeError, match="honourLabels: field not declared in schema"):
        monitored.kubectl(*STRICT, stdin=wrong)
