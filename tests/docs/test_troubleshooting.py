"""Each reason and alert has an entry in the troubleshooting page, and conditions link to it."""

import ast
import re
from pathlib import Path

import pytest

from keyturn.api.status import Condition, Status
from keyturn.core import status as core_status
from keyturn.core.errors import REASONS, RefusedError
from keyturn.core.renewal import Failure
from keyturn.core.status import Outcome, events, invalid, page, report
from tests.support.dependencies import NOW, request
from tests.support.prometheus.rules import ALERTS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations" / "troubleshooting.md").read_text()
ENTRIES = set(re.findall(r"^## (\w+)$", TEXT, re.MULTILINE))
# CamelCase words in core/status.py that are not reasons: condition types, values, Event types and renewal reasons.
OTHER_WORDS = {"True", "False", "Unknown", "Ready", "Normal", "Warning", "Secret", "Due", "DriftDetected"}


def reasons() -> set[str]:
    """Return the reasons of all conditions and Events: those of failures, and those that core/status.py sets itself."""
    words = {
        node.value
        for node in ast.walk(ast.parse(Path(core_status.__file__).read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"([A-Z][a-z]+)+", node.value)
    }
    return (words - OTHER_WORDS) | {*REASONS, *(policy.event for policy in REASONS.values())}


def has_link(condition: Condition) -> bool:
    return condition.message.endswith(f"; see docs/operations/troubleshooting.md#{condition.reason.lower()}")


def failure(reason: str, message: str = "no") -> Outcome:
    return Outcome(NOW, None, failure=Failure(RefusedError(reason, message), 1, NOW, 1), tried=True)


def test_each_reason_has_an_entry() -> None:
    assert {entry for entry in ENTRIES if not entry.startswith("Keyturn")} == reasons()


def test_each_alert_has_an_entry() -> None:
    assert {entry for entry in ENTRIES if entry.startswith("Keyturn")} == set(ALERTS)


@pytest.mark.parametrize(
    "outcome",
    [*(pytest.param(failure(reason), id=reason) for reason in REASONS), pytest.param(Outcome(NOW), id="Pending")],
)
def test_failed_conditions_link_to_their_reason(outcome: Outcome) -> None:
    assert all(has_link(condition) for condition in report(request(), Status(), outcome).conditions)


def test_invalid_spec_links_to_its_reason() -> None:
    assert all(has_link(condition) for condition in invalid(Status(), 1, "no such field", NOW).conditions)


def test_link_leads_to_the_page() -> None:
    path, _, anchor = page("AccessDenied").partition("#")

    assert (ROOT / path).read_text() == TEXT
    assert anchor in {entry.lower() for entry in ENTRIES}


def test_event_keeps_the_link_of_a_long_message() -> None:
    status = report(request(), Status(), failure("WriteDenied", "denied by policy " * 500))
    (event,) = events(Status(), status)

    assert event.message.endswith("; see docs/operations/troubleshooting.md#writedenied")
    assert "; next try at " in event.message
    assert len(event.message) <= 1024  # the API server's limit
