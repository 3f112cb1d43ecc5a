"""A real Prometheus on loopback with the rules and the scrape configuration of the chart."""

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
from tests.support.controlplane.process import Server
from tests.support.processes import until
from tests.support.prometheus.binaries import binary

MONITORED = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
# Shortens the rules for tests: the `for` durations, the only range, and the only threshold that is a time.
SHORTER = ((r"for: \d+m", "for: 1s"), (r"\[10m\]", "[6s]"), (r"> 120\b", "> 2"))


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A client of a running Prometheus."""

    url: str

    def get(self, path: str, **parameters: str | float) -> Any:
        """Call the HTTP API and return the data of the response."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - a loopback URL
            return json.load(response)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now and return the vector."""
        vector: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return vector

    def history(self, expression: str, seconds: float) -> list[float]:
        """Evaluate an expression for each of the last seconds and return the values of all series."""
        now = float(self.query("vector(time())")[0]["value"][1])
        matrix = self.get("query_range", query=expression, start=now - seconds, end=now, step=1)["result"]
        return [float(value) for series in matrix for _, value in series["values"]]

    def firing(self) -> set[str]:
        """The names of the alerts that are firing."""
        return {it["metric"]["alertname"] for it in self.query('ALERTS{alertstate="firing"}')}

    def fired(self) -> set[str]:
        """The names of the alerts that have fired within the last hour."""
        return {it["metric"]["alertname"] for it in self.query('max_over_time(ALERTS{alertstate="firing"}[1h])')}


@contextmanager
def running_prometheus(directory: Path, targets: Mapping[str, str], rules: str = "") -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes `targets`, addresses by pod name, each second.

    The default rules are those of the chart with SHORTER.
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
        until(lambda: _is_up(server, prometheus))
        yield prometheus
    finally:
        server.stop()


def shortened_rules() -> str:
    """The rules of the chart with SHORTER."""
    [rules] = [it for it in _chart_objects() if it["kind"] == "PrometheusRule"]
    text = yaml.safe_dump(rules["spec"], width=1000)
    for pattern, shorter in SHORTER:
        text, replacements = re.subn(pattern, shorter, text)
        assert replacements, f"no rule contains {pattern}"
    return text


def _configuration(targets: Mapping[str, str]) -> dict[str, Any]:
    """The configuration that prometheus-operator generates from the ServiceMonitor, with the labels of the target."""
    [service] = [it for it in _chart_objects() if it["kind"] == "Service"]
    [monitor] = [it for it in _chart_objects() if it["kind"] == "ServiceMonitor"]
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


def _chart_objects() -> list[dict[str, Any]]:
    return [it for it in yaml.safe_load_all(chart_objects(MONITORED)) if it]


def _is_up(server: Server, prometheus: Prometheus) -> bool:
    server.check()
    try:
        return bool(prometheus.query("vector(1)"))
    except OSError:
        return False
