"""Formats times for people."""

from datetime import datetime

from keyturn.api.times import human_duration, read_time


def absolute_and_relative(time: str | None, now: datetime) -> str:
    """Format a time of a status, such as `2026-01-02T04:04:05Z (in 55m)`; empty if there is none."""
    moment = read_time(time)
    return f"{time} ({relative(moment, now)})" if moment else ""


def relative(moment: datetime, now: datetime) -> str:
    """Format the distance of a time from now, such as `in 11h59m` or `5m ago`."""
    return f"in {human_duration(moment - now)}" if moment >= now else f"{human_duration(now - moment)} ago"
