"""Each reason and alert has an entry in the troubleshooting page, by its name."""

import ast
import re
from pathlib import Path

from keyturn.core import status as core_status
from keyturn.core.errors import REASONS
from keyturn.core.renewal import WAITING_FOR_RENEWAL
from tests.support.prometheus.rules import ALERTS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations" / "troubleshooting.md").read_text()
ENTRIES = set(re.findall(r"^## (\w+)$", TEXT, re.MULTILINE))
# CamelCase words in core/status.py that are not reasons: condition types, values, Event types and renewal reasons.
OTHER_WORDS = {
    *("True", "False", "Unknown", "Ready", "Normal", "Warning", "Secret"),
    *("Due", "SecretMissing", "IssuanceUnreadable"),
}


def reasons() -> set[str]:
    """Return the reasons of all conditions and Events: those of failures, and those that core/status.py sets itself."""
    words = {
        node.value
        for node in ast.walk(ast.parse(Path(core_status.__file__).read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"([A-Z][a-z]+)+", node.value)
    }
    return (words - OTHER_WORDS) | {WAITING_FOR_RENEWAL, *REASONS, *(policy.event for policy in REASONS.values())}


def test_each_reason_has_an_entry() -> None:
    assert {entry for entry in ENTRIES if not entry.startswith("Keyturn")} == reasons()


def test_each_alert_has_an_entry() -> None:
    assert {entry for entry in ENTRIES if entry.startswith("Keyturn")} == set(ALERTS)
