"""docs/monitoring.md tells of every alert, rule, row and metric, and its values render."""

import re
import subprocess
from pathlib import Path

import yaml
from prometheus_client.metrics import MetricWrapperBase

from keyturn.metrics import Metrics, Series
from tests.e2e.prometheus.test_rules import ALERTS
from tests.support.cluster.chart import chart_objects
from tests.support.dependencies import NOW
from tests.support.flows_page import Page
from tests.support.prometheus.binaries import binary
from tests.support.prometheus.dashboard import RULES, dashboard, recorded

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "monitoring.md").read_text()
PAGE = Page(TEXT)
VALUES, CONFIGURATION = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
MOMENTS = dict.fromkeys(("issued", "renews", "expires", "source_expires", "source_warns"), NOW)
ONE = Series(
    namespace="a", name="b", conditions=(("Ready", "True"),), failed_attempts=0, suspended=False, **MOMENTS
)


def test_alerts() -> None:
    told = {name: (severity, after) for name, severity, after, _ in PAGE.table("Alerts", "alert")}

    assert told == {name: (rule["labels"]["severity"], rule["for"]) for name, rule in ALERTS.items()}


def test_runbooks() -> None:
    headings = Page((DOCS / "troubleshooting.md").read_text()).headings()

    assert [name for name in ALERTS if name not in headings] == []


def test_recording_rules() -> None:
    assert {row[0] for row in PAGE.table("Recording rules", "series")} == recorded()


def test_rows_of_the_dashboard() -> None:
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]

    assert [row[0] for row in PAGE.table("Dashboard", "row")] == rows


def test_metrics() -> None:
    metrics = Metrics()
    metrics.export(lambda: [ONE], lambda: {"due": 1})
    metrics.leader.set(1)
    for own in vars(metrics).values():
        if isinstance(own, MetricWrapperBase) and own._labelnames:
            own.labels(*own._labelnames)
    suffixes = {"counter": "_total", "info": "_info"}
    exported = {
        family.name + suffixes.get(family.type, ""): (
            {label for sample in family.samples for label in sample.labels} - {"le"},
            family.documentation,
        )
        for family in metrics.registry.collect()
        if not family.name.startswith("process_")
    }
    told = {
        name: (set(re.findall("`(.*?)`", labels)), text) for name, labels, text in PAGE.table("Metrics", "metric")
    }

    assert told == exported


def test_the_values_render() -> None:
    kinds = {it["kind"] for it in yaml.safe_load_all(chart_objects(yaml.safe_load(VALUES))) if it}

    assert {"Service", "ServiceMonitor", "PrometheusRule", "ConfigMap"} <= kinds


def test_the_configuration_is_one_and_finds_the_service(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yaml").write_text(CONFIGURATION)
    (tmp_path / "rules.yaml").write_text(RULES.read_text())
    command = [str(binary("promtool")), "check", "config", str(tmp_path / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    values = {"metrics": {"service": {"enabled": True}}}
    shipped = {it["kind"]: it for it in yaml.safe_load_all(chart_objects(values)) if it}
    service, pod = shipped["Service"], shipped["Deployment"]["spec"]["template"]["spec"]
    [found] = yaml.safe_load(CONFIGURATION)["scrape_configs"][0]["dns_sd_configs"]

    assert done.returncode == 0, done.stdout + done.stderr
    assert service["spec"]["clusterIP"] == "None"
    assert (found["names"], found["port"]) == (
        [f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"],
        pod["containers"][0]["ports"][0]["containerPort"],  # the name has the addresses of pods
    )


def test_links() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)", TEXT))

    assert [link for link in linked if not (DOCS / link).exists()] == []
