from datetime import timedelta

import pytest

from keyturn.core.errors import (
    REASONS,
    BeingDeletedError,
    KeyturnError,
    LeaseLostError,
    RefusedError,
    ThrottledError,
    UnavailableError,
)
from tests.support.dependencies import MINUTE

# The rows of the design that exist; reason, event, stalled, wait in minutes, look in minutes.
_ROWS = [
    ("Unavailable", "RenewalFailed", False, None, None),
    ("Unreachable", "RenewalFailed", False, None, None),
    ("Throttled", "RenewalFailed", False, None, None),
    ("AccessDenied", "Stalled", True, 5, None),
    ("IdentityNotAllowed", "Stalled", True, 5, None),
    ("InvalidSpec", "Stalled", True, 30, None),
    ("SourceInvalid", "Stalled", True, 30, 1),
    ("SourceExpired", "Stalled", True, 30, 1),
    ("StaleTokenRestored", "Stalled", True, 30, 1),
    ("SourceConsumed", "Stalled", True, 30, 1),
    ("RefreshOutcomeUnknown", "RefreshOutcomeUnknown", False, 30, 1),
    ("TargetConflict", "Stalled", True, 30, 1),
    ("SourceNotFound", "SourceNotFound", False, 1, None),
    ("WriteDenied", "WriteDenied", True, None, None),
]


@pytest.mark.parametrize(("reason", "event", "stalled", "wait", "look"), _ROWS)
def test_what_a_reason_leads_to(reason: str, event: str, wait: int | None, look: int | None, *, stalled: bool) -> None:
    reaction = REASONS[reason]

    assert (reaction.event, reaction.stalled) == (event, stalled)
    assert reaction.retry_after == (wait * MINUTE if wait else None)
    assert reaction.recheck_interval == (look * MINUTE if look else None)


def test_every_reason_has_a_row() -> None:
    assert REASONS.keys() == {row[0] for row in _ROWS}


def test_a_throttled_call_is_an_unavailable_one_with_a_pace() -> None:
    error = ThrottledError("slow", request_id="id", retry_after=timedelta(seconds=7))

    assert isinstance(error, UnavailableError)
    assert (error.reason, error.request_id, error.retry_after.seconds) == ("Throttled", "id", 7)


def test_error_text_is_its_message() -> None:
    error = RefusedError("SourceInvalid", "why")

    assert (str(error), error.message) == ("why", "why")


@pytest.mark.parametrize("error", [BeingDeletedError("gone"), LeaseLostError("lost")], ids=lambda it: type(it).__name__)
def test_end_of_work_is_no_failure(error: Exception) -> None:
    assert not isinstance(error, KeyturnError)
