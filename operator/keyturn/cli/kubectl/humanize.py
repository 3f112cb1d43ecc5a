"""Moments as people read them."""

from datetime import datetime, timedelta

from keyturn.api.times import read_time

_UNITS = (
    (timedelta(days=2), timedelta(days=1), "days"),
    (timedelta(hours=3), timedelta(hours=1), "h"),
    (timedelta(minutes=3), timedelta(minutes=1), "min"),
    (timedelta(), timedelta(seconds=1), "s"),
)


def both(told: str | None, now: datetime) -> str:
    """A time of a status, absolute and relative; empty where none is told."""
    moment = read_time(told)
    return f"{told} ({relative(moment, now)})" if moment else ""


def relative(moment: datetime, now: datetime) -> str:
    """How far a moment is away: in 5 min, 3 h ago."""
    ahead = moment - now
    return f"in {length(ahead)}" if ahead >= timedelta() else f"{length(-ahead)} ago"


def length(span: timedelta) -> str:
    """A time in one unit, cut to a whole number that is at least two."""
    at_least, unit, name = next(it for it in _UNITS if span >= it[0])
    return f"{span // unit if at_least else int(span.total_seconds())} {name}"
