"""The API server with the CRDs of prometheus-operator accepts every field of the chart's monitoring objects."""

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
    """The control plane with these CRDs, which are deleted afterwards."""
    for path in crd_files():
        installed.kubectl("apply", "--server-side", "--filename", str(path))
    names = [f"crd/{kind}.monitoring.coreos.com" for kind in KINDS]
    installed.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    yield installed
    installed.kubectl("delete", "--wait=false", *names)


@pytest.mark.parametrize("monitor", ["serviceMonitor", "podMonitor"])
def test_monitoring_objects_are_accepted(monitored: ControlPlane, monitor: str) -> None:
    values: Values = {**RULES, monitor: MONITOR}
    output = monitored.kubectl(*STRICT, stdin=chart_objects(values, only=["metrics", "prometheusrule", "dashboard"]))

    assert f"{monitor.lower()}.monitoring.coreos.com/keyturn" in output
    assert "prometheusrule.monitoring.coreos.com/keyturn" in output
    assert "configmap/keyturn-dashboard" in output


def test_unknown_field_is_refused(monitored: ControlPlane) -> None:
    misspelled = chart_objects({"podMonitor": MONITOR}, only=["metrics"]).replace("honorLabels:", "honourLabels:")

    with pytest.raises(RuntimeError, match="honourLabels: field not declared in schema"):
        monitored.kubectl(*STRICT, stdin=misspelled)
