"""A wrong clock: detects when it is set, and measures its difference from the clock of a service."""

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from keyturn.api.times import human_duration
from keyturn.core.errors import UnavailableError

# Smaller differences do not explain a failure, and are not reported.
SIGNIFICANT_SKEW = timedelta(minutes=1)
# A clock without a battery starts in 1970. Subtracting thousands of years from a time would fail.
_LARGEST_SKEW = timedelta(days=366 * 100)
_STEP = timedelta(seconds=5)  # smaller steps are NTP corrections


class ClockSteps:
    """Compares the clock with a monotonic clock (in seconds), which does not change when the clock is set."""

    def __init__(self, now: datetime, monotonic: float) -> None:
        self._offset = now - timedelta(seconds=monotonic)

    def observe(self, now: datetime, monotonic: float) -> timedelta:
        """Return by how much the clock was set since the last observation; zero if it was not."""
        offset = now - timedelta(seconds=monotonic)
        step, self._offset = offset - self._offset, offset
        return step if abs(step) >= _STEP else timedelta()


def measure_skew(date: str | None, now: datetime) -> timedelta:
    """Return the service's clock minus the local clock; zero if a proxy has removed or rewritten the header."""
    return until(date or "", now)


def until(http_date: str, now: datetime) -> timedelta:
    """Return the time until a date (RFC 9110 section 5.6.7), which is negative if it is past; zero if it is invalid.

    Never fails: the response may contain a token that exists nowhere else.
    """
    try:
        skew = parsedate_to_datetime(http_date) - now
    except (TypeError, ValueError, OverflowError):  # OverflowError: a year of 20 digits
        return timedelta()
    return skew if abs(skew) < _LARGEST_SKEW else timedelta()


def describe_skew(skew: timedelta, service: str) -> str:
    """Describe what is wrong with the node's clock, and what to do. The skew is zero if it could not be measured."""
    if abs(skew) < SIGNIFICANT_SKEW:
        return f"{service}'s clock differs from the node's clock: synchronize the node's clock"
    # In whole minutes: otherwise the message would change with each attempt.
    difference = human_duration(timedelta(minutes=round(abs(skew) / timedelta(minutes=1))))
    return (
        f"the node's clock is {difference} {'behind' if skew > timedelta() else 'ahead of'} {service}: synchronize it"
    )


def clock_skew_error(what: str, skew: timedelta, service: str, request_id: str = "") -> UnavailableError:
    """Return the error for a call that failed because of a wrong clock."""
    return UnavailableError("ClockSkew", f"{what}; {describe_skew(skew, service)}", request_id=request_id)
