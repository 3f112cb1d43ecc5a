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
    rules.write_text(RULES.read_text().replace("(keyturn_request_suspended) == 1", "(keyturn_request_suspended) == 2"))
    cases.write_text(re.sub(r"rule_files: .*", f"rule_files: [{rules}]", CASES.read_text()))

    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", cases)


def test_another_cluster_neither_hides_nor_ends_an_alert(tmp_path: Path) -> None:
    # Only strings: 0x5 is a number in YAML.
    cases = yaml.load(CASES.read_text(), yaml.BaseLoader)  # noqa: S506 - a file of these tests
    tests = [_in_two_clusters(test) for test in cases["tests"] if "alert_rule_test" in test]
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump({**cases, "rule_files": [str(RULES)], "tests": tests}))

    promtool("test", "rules", tmp_path / "cases.yaml")


def _in_two_clusters(test: dict[str, Any]) -> dict[str, Any]:
    """Move a case to one of two clusters. In the other one, the operator leads, and whatever ends an alert is true."""
    own = (
        (each["series"].replace("{", '{region="eu", cluster="a", ', 1), each["values"]) for each in test["input_series"]
    )
    series = [{"series": name, "values": values} for name, values in own]
    requests = {tuple(re.findall(r'\b(?:namespace|name)="[^"]*"', each["series"])) for each in test["input_series"]}
    others = ['keyturn_leader{region="eu", cluster="b"}']
    for labels in (", ".join(request) for request in requests if len(request) == 2):
        request = f'region="eu", cluster="b", {labels}'
        others += [f"{name}{{{request}}}" for name in ("keyturn_request_suspended", "keyturn_request_failed_attempts")]
        for condition in ('"Stalled", status="True"', '"Renewed", status="Unknown"'):
            others.append(f"keyturn_request_condition{{{request}, condition={condition}}}")
    series += [{"series": each, "values": "1x200"} for each in others]
    for case in test["alert_rule_test"]:
        for alert in case["exp_alerts"]:
            alert["exp_labels"] |= {"cluster": "a", "region": "eu"}
    return {"name": test["name"], "interval": "1m", "input_series": series, "alert_rule_test": test["alert_rule_test"]}


def test_rules_keep_every_label_that_they_do_not_list() -> None:
    expressions = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    text = "\n".join(expressions)
    lists = [frozenset(re.findall(r"\w+", labels)) for labels in re.findall(r"without \(([^)]*)\)", text)]
    of_scrapes = {labels for labels in lists if "instance" in labels}

    assert re.findall(r"\b(?:by|on|ignoring|group_left|group_right)\s*\(", text) == []
    # A label that one of them lacks would split its series when a pod or the leader changes.
    assert frozenset.intersection(*of_scrapes) == frozenset.union(*of_scrapes) - {
        *("job", "namespace", "pod", "service"),  # some alerts are about them
        *("condition", "reason", "result", "status"),  # of single metrics
    }


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
