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

# Reason, event, stalled, retry_after and recheck_interval in minutes.
_ROWS = [
    ("Unavailable", "RenewalFailed", False, None, None),
    ("Unreachable", "RenewalFailed", False, None, None),
    ("Throttled", "RenewalFailed", False, None, None),
    ("AccessDenied", "Stalled", True, 5, 1),
    ("IdentityNotAllowed", "Stalled", True, 5, 1),
    ("InvalidSpec", "Stalled", True, 30, 1),
    ("SourceInvalid", "Stalled", True, 30, 1),
    ("SourceExpired", "Stalled", True, 30, 1),
    ("StaleTokenRestored", "Stalled", True, 30, 1),
    ("SourceConsumed", "Stalled", True, 30, 1),
    ("RefreshOutcomeUnknown", "RefreshOutcomeUnknown", False, 30, 1),
    ("TargetConflict", "Stalled", True, 30, 1),
    ("SourceNotFound", "SourceNotFound", False, 1, None),
    ("SourceKeyEmpty", "SourceKeyEmpty", False, 1, None),
    ("SourceForbidden", "Stalled", True, 1, None),
    ("WriteDenied", "WriteDenied", True, None, None),
    ("ScopeConflict", "ScopeConflict", False, 1, None),
    ("InternalError", "InternalError", False, None, None),
]


@pytest.mark.parametrize(("reason", "event", "stalled", "retry_after", "recheck_interval"), _ROWS)
def test_policy_of_each_reason(
    reason: str, event: str, retry_after: int | None, recheck_interval: int | None, *, stalled: bool
) -> None:
    policy = REASONS[reason]

    assert (policy.event, policy.stalled) == (event, stalled)
    assert policy.retry_after == (retry_after * MINUTE if retry_after else None)
    assert policy.recheck_interval == (recheck_interval * MINUTE if recheck_interval else None)


def test_every_reason_is_in_the_table() -> None:
    assert REASONS.keys() == {row[0] for row in _ROWS}


def test_throttled_error_is_unavailable_with_retry_after() -> None:
    error = ThrottledError("slow", request_id="id", retry_after=timedelta(seconds=7))

    assert isinstance(error, UnavailableError)
    assert (error.reason, error.request_id, error.retry_after.seconds) == ("Throttled", "id", 7)


def test_error_text_is_its_message() -> None:
    error = RefusedError("SourceInvalid", "why")

    assert (str(error), error.message) == ("why", "why")


@pytest.mark.parametrize(
    "error", [BeingDeletedError("deleted"), LeaseLostError("lost")], ids=lambda it: type(it).__name__
)
def test_interruption_is_not_a_keyturn_error(error: Exception) -> None:
    assert not isinstance(error, KeyturnError)
