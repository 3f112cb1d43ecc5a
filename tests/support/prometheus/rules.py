"""The chart's alerting rules."""

from typing import Any

import yaml

from tests.support.cluster.chart import CHART

RULES = CHART / "files" / "rules.yaml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
