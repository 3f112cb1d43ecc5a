"""The troubleshooting page explains every reason."""

import ast
import re
from datetime import timedelta
from pathlib import Path

import pytest

from keyturn.api.status import Status
from keyturn.api.token_request import Request
from keyturn.core import status as told
from keyturn.core.errors import REASONS, RefusedError
from keyturn.core.issuance import Issuance
from keyturn.core.state import Failure
from keyturn.core.status import Outcome, events, report
from tests.support.dependencies import HOUR, NOW, request
from tests.unit.core.test_status import FIRST, ISSUED, LATER, REQUEST, SECOND_ISSUE, WARNED

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations" / "troubleshooting.md").read_text()
RULES = ROOT / "charts" / "keyturn" / "files" / "rules.yaml"
ENTRIES = dict(re.findall(r"^## (\w+)\n(.*?)(?=^##? |\Z)", TEXT, re.MULTILINE | re.DOTALL))
PARTS = ["What it means.", "What Keyturn does.", "What you do."]
# CamelCase in core/status.py that is no reason: kinds and values of conditions, events, words, a cause.
NO_REASONS = {"True", "False", "Unknown", "Ready", "Normal", "Warning", "Secret", "Due", "DriftDetected"}
SAYS = {None: "backoff", timedelta(minutes=1): "in 1 min", timedelta(minutes=5): "in 5 min"}


def reasons() -> set[str]:
    """Every reason of a condition or an event: those of failures, and those that core/status.py gives itself."""
    words = {
        node.value for node in ast.walk(ast.parse(Path(told.__file__).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        and re.fullmatch(r"([A-Z][a-z]+)+", node.value)
    }  # fmt: skip
    return (words - NO_REASONS) | {*REASONS, *(it.event for it in REASONS.values())}


def failed(reason: str, issuance: Issuance | None = None, message: str = "no") -> Outcome:
    return Outcome(LATER, issuance, failure=Failure(RefusedError(reason, message), 1, LATER, 1), tried=True)


def test_every_reason_has_its_entry_and_no_other() -> None:
    entries = {heading for heading in ENTRIES if not heading.startswith("Keyturn")}

    assert entries == reasons()


@pytest.mark.skipif(not RULES.exists(), reason="this chart has no alerts")
def test_every_alert_has_its_entry_and_no_other() -> None:
    entries = {heading for heading in ENTRIES if heading.startswith("Keyturn")}

    assert entries == set(re.findall(r"- alert: (\w+)", RULES.read_text()))


@pytest.mark.parametrize("reason", [name for name in ENTRIES if not name.startswith("Keyturn")])
def test_an_entry_says_what_it_means_what_is_done_and_what_to_do(reason: str) -> None:
    assert re.findall(r"^\*\*(.*?)\*\*", ENTRIES[reason], re.MULTILINE) == PARTS


@pytest.mark.parametrize("reason", REASONS)
def test_an_entry_says_when_the_next_try_is(reason: str) -> None:
    wait = REASONS[reason].retry_after

    assert SAYS.get(wait, "in 30 min") in ENTRIES[reason].split("What Keyturn does.")[1].split("**What you do")[0]


@pytest.mark.parametrize("reason", REASONS)
def test_the_lists_at_the_top_say_who_must_act(reason: str) -> None:
    waiting, acting = TEXT.split("How it is:")[0].split("A person must act:")

    assert (f"(#{reason.lower()})" in acting) is REASONS[reason].stalled
    assert (f"(#{reason.lower()})" in waiting) is not REASONS[reason].stalled


@pytest.mark.parametrize(
    ("wanted", "outcome"),
    [
        *(pytest.param(REQUEST, failed(it), id=it) for it in REASONS),
        *(pytest.param(REQUEST, failed(it, ISSUED), id=f"{it} with a valid Secret") for it in REASONS),
        pytest.param(REQUEST, Outcome(NOW), id="Pending"),
        pytest.param(REQUEST, Outcome(NOW, ISSUED, "SecretMissing"), id="Issued"),
        pytest.param(REQUEST, Outcome(LATER, SECOND_ISSUE, "DriftDetected"), id="DriftCorrected"),
        pytest.param(REQUEST, Outcome(NOW + HOUR, ISSUED), id="Expired"),
        pytest.param(REQUEST, Outcome(LATER, WARNED), id="SourceExpiring"),
        pytest.param(request(suspend=True), Outcome(LATER, ISSUED), id="Suspended"),
    ],
)
def test_reason_of_a_condition_has_an_entry(wanted: Request, outcome: Outcome) -> None:
    assert {condition.reason for condition in report(wanted, Status(), outcome).conditions} <= ENTRIES.keys()


def test_event_names_the_next_attempt_however_long_the_error_is() -> None:
    status = report(REQUEST, FIRST, failed("WriteDenied", None, "denied by policy " * 500))
    (event,) = events(FIRST, status)

    assert "; next attempt at " in event.message
    assert len(event.message) <= 1024  # what the API server accepts
