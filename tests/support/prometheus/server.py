"""A Prometheus on loopback with the chart's rules, which scrapes as the chart's ServiceMonitor specifies."""

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
from tests.support.prometheus.binaries import prometheus_binary

_MONITORED = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
# The only changes to the chart's rules: durations, the one range, and the one threshold that is a time.
_SHORTER = ((r"for: \d+m", "for: 1s"), (r"\[10m\]", "[6s]"), (r"> 120\b", "> 2"))


@dataclass(frozen=True, slots=True)
class Prometheus:
    url: str

    def get(self, path: str, **parameters: str | float) -> Any:
        """Call its API and return the data of the response."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - a URL of the test
            return json.load(response)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now and return its vector."""
        return list(self.get("query", query=expression)["result"])

    def history(self, expression: str, seconds: float) -> list[float]:
        """Evaluate an expression for each of the last seconds and return the values of all series."""
        now = float(self.query("vector(time())")[0]["value"][1])
        matrix = self.get("query_range", query=expression, start=now - seconds, end=now, step=1)["result"]
        return [float(value) for series in matrix for _, value in series["values"]]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        return {it["metric"]["alertname"] for it in self.query('ALERTS{alertstate="firing"}')}

    def fired(self) -> set[str]:
        """Return the names of the alerts that have fired since the start."""
        return {it["metric"]["alertname"] for it in self.query('max_over_time(ALERTS{alertstate="firing"}[1h])')}


@contextmanager
def running_prometheus(directory: Path, targets: Mapping[str, str], rules: str = "") -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes `targets`, addresses by pod name, every second.

    Its rules are the chart's with shorter durations, unless `rules` is set.
    """
    port, _, _ = free_ports()
    objects = {it["kind"]: it for it in yaml.safe_load_all(chart_objects(_MONITORED)) if it}
    (directory / "rules.yaml").write_text(rules or _shorten(objects["PrometheusRule"]))
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(_configuration(objects, targets)))
    command = [
        str(prometheus_binary("prometheus")), f"--config.file={directory}/prometheus.yaml", "--log.level=warn",
        f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={directory}/data",
    ]  # fmt: skip
    server = Server("prometheus", command, directory / "prometheus.log")
    prometheus = Prometheus(f"http://127.0.0.1:{port}")
    server.start()
    try:
        until(lambda: _responds(server, prometheus))
        yield prometheus
    finally:
        server.stop()


def _shorten(rules: dict[str, Any]) -> str:
    text = yaml.safe_dump(rules["spec"], width=1000)
    for pattern, shorter in _SHORTER:
        text, count = re.subn(pattern, shorter, text)
        assert count, f"no rule contains {pattern}"
    return text


def _configuration(objects: dict[str, Any], targets: Mapping[str, str]) -> dict[str, Any]:
    """Configure the scrape as prometheus-operator does for the ServiceMonitor, with the target's labels."""
    service = objects["Service"]["metadata"]
    labels = {"namespace": service["namespace"], "service": service["name"]}
    scrape = {
        "job_name": service["name"],
        "honor_labels": objects["ServiceMonitor"]["spec"]["endpoints"][0]["honorLabels"],
        "static_configs": [{"targets": [it], "labels": labels | {"pod": pod}} for pod, it in targets.items()],
    }
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [scrape],
    }


def _responds(server: Server, prometheus: Prometheus) -> bool:
    server.check()
    try:
        return bool(prometheus.query("vector(1)"))
    except OSError:
        return False
