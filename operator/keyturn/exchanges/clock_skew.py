"""Differences between the clocks of services and the local clock, measured from the Date header of responses."""

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from keyturn.api.times import human_duration
from keyturn.core.errors import UnavailableError

# Smaller differences do not explain a failure, and are not reported.
SIGNIFICANT = timedelta(minutes=1)


def measure(date: str | None, now: datetime) -> timedelta:
    """Return the service's clock minus the local clock; zero if a proxy has removed or rewritten the header."""
    try:
        return parsedate_to_datetime(date or "") - now
    except (TypeError, ValueError):
        return timedelta()


def describe(skew: timedelta, service: str) -> str:
    """Describe what is wrong with the node's clock, and what to do. The skew is zero if it could not be measured."""
    if abs(skew) < SIGNIFICANT:
        return f"{service}'s clock differs from the node's clock: synchronize the node's clock"
    # In whole minutes: otherwise the message would change with each attempt.
    difference = human_duration(timedelta(minutes=round(abs(skew) / timedelta(minutes=1))))
    return (
        f"the node's clock is {difference} {'behind' if skew > timedelta() else 'ahead of'} {service}: synchronize it"
    )


def to_error(what: str, skew: timedelta, service: str, request_id: str = "") -> UnavailableError:
    """Return the error for a call that failed because of a wrong clock."""
    return UnavailableError("ClockSkew", f"{what}; {describe(skew, service)}", request_id=request_id)
