from datetime import timedelta

import pytest

from keyturn.core.errors import (
    BeingDeletedError,
    KeyturnError,
    LeaseLostError,
    RefusedError,
    ThrottledError,
    UnavailableError,
)


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
