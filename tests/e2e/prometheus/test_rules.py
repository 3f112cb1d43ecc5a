"""The rules by promtool: they are read, and each alert does not fire, fires and resolves when it must."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster.chart import CHART
from tests.support.prometheus.binaries import prometheus_binary

RULES = CHART / "files" / "rules.yaml"
CASES = Path(__file__).with_name("rules_test.yaml")
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
# What issue and design ask for.
ASKED = {
    *("KeyturnExpired", "KeyturnExpiring", "KeyturnRenewalFailing", "KeyturnStalled", "KeyturnRefreshInDoubt"),
    *("KeyturnThrottled", "KeyturnRenewalsLate", "KeyturnNoLeader", "KeyturnOperatorAbsent", "KeyturnSourceEnds"),
    "KeyturnNotReady",  # nobody asked, but without it a first issue that is never tried alerts nobody
}


def promtool(*arguments: str | Path) -> str:
    """Run promtool; what it finds wrong is the message of the failure."""
    done = subprocess.run(
        [prometheus_binary("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr

    assert done.returncode == 0, said
    return said


def test_the_rules_are_read() -> None:
    assert re.search(r"SUCCESS: [0-9]+ rules found", promtool("check", "rules", "--lint-fatal", RULES))


def test_the_cases() -> None:
    promtool("test", "rules", CASES)


def test_a_wrong_rule_fails_the_cases(tmp_path: Path) -> None:
    wrong, cases = tmp_path / "rules.yaml", tmp_path / "cases.yaml"
    wrong.write_text(
        RULES.read_text().replace("(keyturn_request_suspended == 1)", "(keyturn_request_suspended == 2)")
    )
    cases.write_text(re.sub(r"rule_files: .*", f"rule_files: [{wrong}]", CASES.read_text()))

    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", cases)


def test_the_alerts_are_those_that_were_asked_for() -> None:
    assert set(ALERTS) == ASKED


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_cases_before_while_and_after_it_fires(name: str) -> None:
    cases = [
        [bool(case["exp_alerts"]) for case in test.get("alert_rule_test", ()) if case["alertname"] == name]
        for test in yaml.safe_load(CASES.read_text())["tests"]
    ]

    assert any(fires[0] is fires[-1] is False and any(fires) for fires in cases if fires)


@pytest.mark.parametrize(("name", "rule"), ALERTS.items(), ids=ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_means_and_what_to_do(name: str, rule: dict[str, Any]) -> None:
    annotations = rule["annotations"]

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"docs/operations/troubleshooting.md#{name.lower()}"
    assert rule["for"]
