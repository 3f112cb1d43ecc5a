"""Times and durations as people read them."""

from datetime import datetime, timedelta

from keyturn.api.times import read_time


def absolute_and_relative(time: str | None, now: datetime) -> str:
    """Format a time of a status, such as `2026-01-02T04:04:05Z (in 55m)`; empty if there is none."""
    moment = read_time(time)
    return f"{time} ({relative(moment, now)})" if moment else ""


def relative(moment: datetime, now: datetime) -> str:
    """Format the distance of a time from now, such as `in 11h59m` or `5m ago`."""
    return f"in {human_duration(moment - now)}" if moment >= now else f"{human_duration(now - moment)} ago"


def human_duration(duration: timedelta) -> str:
    """Format a duration in its two largest units, such as `11h59m`; smaller units are dropped, never rounded up."""
    seconds = int(duration.total_seconds())
    units = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("m", seconds // 60 % 60), ("s", seconds % 60))
    largest = next((index for index, (_, number) in enumerate(units) if number), len(units) - 1)
    (unit, number), *smaller = units[largest : largest + 2]
    return f"{number}{unit}" + "".join(f"{number}{unit}" for unit, number in smaller if number)
