import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.prometheus.binaries import prometheus_binary
from tests.support.prometheus.rules import ALERTS, RULES

CASES = Path(__file__).with_name("rules_test.yaml")


def promtool(*arguments: str | Path) -> str:
    """Run promtool and return its output. Fails with the output if promtool does."""
    done = subprocess.run(
        [prometheus_binary("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    output = done.stdout + done.stderr

    assert done.returncode == 0, output
    return output


def test_promtool_accepts_the_rules() -> None:
    assert re.search(r"SUCCESS: [0-9]+ rules found", promtool("check", "rules", "--lint-fatal", RULES))


def test_alerts_fire_and_resolve_as_expected() -> None:
    promtool("test", "rules", CASES)


def test_cases_detect_a_wrong_rule(tmp_path: Path) -> None:
    rules, cases = tmp_path / "rules.yaml", tmp_path / "cases.yaml"
    rules.write_text(RULES.read_text().replace("(keyturn_request_suspended == 1)", "(keyturn_request_suspended == 2)"))
    cases.write_text(re.sub(r"rule_files: .*", f"rule_files: [{rules}]", CASES.read_text()))

    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", cases)


@pytest.mark.parametrize("name", ALERTS)
def test_alert_has_cases_before_during_and_after(name: str) -> None:
    cases = [
        [bool(case["exp_alerts"]) for case in test.get("alert_rule_test", ()) if case["alertname"] == name]
        for test in yaml.safe_load(CASES.read_text())["tests"]
    ]

    assert any(fires[0] is fires[-1] is False and any(fires) for fires in cases if fires)


@pytest.mark.parametrize(("name", "rule"), ALERTS.items(), ids=ALERTS)
def test_alert_has_severity_summary_and_runbook(name: str, rule: dict[str, Any]) -> None:
    annotations = rule["annotations"]

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"docs/operations/troubleshooting.md#{name.lower()}"
    assert rule["for"]
