"""A real Prometheus on loopback with the chart's rules, which scrapes as the chart's ServiceMonitor asks."""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster.chart import chart_objects
from tests.support.controlplane.configuration import free_ports
from tests.support.controlplane.server import Server
from tests.support.processes import until
from tests.support.prometheus.binaries import binary

MONITORED = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
# What makes the chart's rules quick enough for a test, and all that is changed in them: how long something must be
# so, the one range, and the one threshold that is a time.
SHORTER = ((r"for: \d+m", "for: 1s"), (r"\[10m\]", "[6s]"), (r"> 120\b", "> 2"))


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def get(self, path: str, **parameters: str | float) -> Any:
        """Ask its API and return the data of the answer."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - a URL of our own
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now: the vector's labels and values."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def history(self, expression: str, seconds: float) -> list[float]:
        """Evaluate an expression for every second of the last so many: the numbers of all series."""
        now = float(self.query("vector(time())")[0]["value"][1])
        found = self.get("query_range", query=expression, start=now - seconds, end=now, step=1)["result"]
        return [float(value) for series in found for _, value in series["values"]]

    def firing(self) -> set[str]:
        """Name the alerts that fire now."""
        return {it["metric"]["alertname"] for it in self.query('ALERTS{alertstate="firing"}')}

    def fired(self) -> set[str]:
        """Name the alerts that have fired since the start."""
        return {it["metric"]["alertname"] for it in self.query('max_over_time(ALERTS{alertstate="firing"}[1h])')}


@contextmanager
def running_prometheus(directory: Path, targets: Mapping[str, str], rules: str = "") -> Iterator[Prometheus]:
    """Start one that scrapes `targets`, addresses by the name of their pods, each second.

    Its rules are the chart's, SHORTER unless others are given.
    """
    port, _, _ = free_ports()
    (directory / "rules.yaml").write_text(rules or shortened_rules())
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(_configuration(targets)))
    command = [
        str(binary("prometheus")), f"--config.file={directory}/prometheus.yaml", "--log.level=warn",
        f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={directory}/data",
    ]  # fmt: skip
    server, prometheus = (
        Server("prometheus", command, directory / "prometheus.log"),
        Prometheus(f"http://127.0.0.1:{port}"),
    )
    server.start()
    try:
        until(lambda: _answers(server, prometheus))
        yield prometheus
    finally:
        server.stop()


def shortened_rules() -> str:
    """The rules that the chart ships, SHORTER."""
    [rules] = [it for it in _shipped() if it["kind"] == "PrometheusRule"]
    text = yaml.safe_dump(rules["spec"], width=1000)
    for pattern, shorter in SHORTER:
        text, times = re.subn(pattern, shorter, text)
        assert times, f"{pattern} is in no rule"
    return text


def _configuration(targets: Mapping[str, str]) -> dict[str, Any]:
    """What prometheus-operator makes of our ServiceMonitor: its choices, and labels of the target's place."""
    [service] = [it for it in _shipped() if it["kind"] == "Service"]
    [monitor] = [it for it in _shipped() if it["kind"] == "ServiceMonitor"]
    place = {"namespace": service["metadata"]["namespace"], "service": service["metadata"]["name"]}
    scraped = {
        "job_name": service["metadata"]["name"],
        "honor_labels": monitor["spec"]["endpoints"][0]["honorLabels"],
        "static_configs": [{"targets": [at], "labels": place | {"pod": pod}} for pod, at in targets.items()],
    }
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [scraped],
    }


def _shipped() -> list[dict[str, Any]]:
    return [it for it in yaml.safe_load_all(chart_objects(MONITORED)) if it]


def _answers(server: Server, prometheus: Prometheus) -> bool:
    server.check()
    try:
        return bool(prometheus.query("vector(1)"))
    except OSError:
        return False
