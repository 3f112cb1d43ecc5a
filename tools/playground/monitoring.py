"""A Prometheus with the chart's rules, if it is installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.prometheus.binaries import prometheus_binary
from tests.support.prometheus.rules import RULES
from tests.support.prometheus.server import running_prometheus
from tools.demo import print_step


@contextmanager
def monitored(directory: Path, address: str) -> Iterator[dict[str, str]]:
    """Run a Prometheus that scrapes the operator; yields an environment variable, or nothing if it is not installed."""
    try:
        prometheus_binary("prometheus")
    except pytest.skip.Exception as reason:
        print_step(f"No alerts, because Prometheus is not installed: {reason}")
        yield {}
        return
    print_step("Starting a Prometheus with the chart's alerts")
    (directory / "prometheus").mkdir()
    with running_prometheus(directory / "prometheus", {"keyturn-0": address}, RULES.read_text()) as started:
        yield {"PROMETHEUS": started.url}
