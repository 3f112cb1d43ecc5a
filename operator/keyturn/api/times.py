"""Times and durations, as stored: aware, UTC, in whole seconds."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from msgspec import Meta

from keyturn.api.base import in_re2, matching

# Keyturn always writes a time zone, and a time without one could not be compared.
Moment = Annotated[datetime, Meta(tz=True)]
# A duration in a manifest, such as 1h30m. CEL's duration() accepts the same.
DURATION = r"^([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?\Z"
_DURATION_WORDS = "a duration in hours, minutes and seconds, such as 1h30m"
_UNITS = {"h": "hours", "m": "minutes", "s": "seconds"}


def duration_text(description: str) -> Meta:
    """Return the constraints of a field with a duration."""
    return matching(DURATION, _DURATION_WORDS, min_length=2, max_length=20, description=description)


def is_duration(field: str) -> str:
    """CEL: the field is a duration.

    The API server evaluates rules even if the field breaks its pattern. duration() would then fail, and the API server
    would print the whole rule.
    """
    return f"{field} != '' && {field}.matches('{in_re2(DURATION)}')"


def whole_seconds(moment: datetime) -> datetime:
    """Truncate to whole seconds, in UTC."""
    return moment.astimezone(UTC).replace(microsecond=0)


def rfc3339(moment: datetime) -> str:
    """Format a UTC time with whole seconds and a Z: the SDKs for JavaScript and Rust reject +00:00."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(text: str | None) -> datetime | None:
    """Parse a time of a status. Return None if it is missing or invalid: anyone may write a status."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def human_duration(span: timedelta) -> str:
    """Format a duration by its two largest units, truncated: 11h59m, 45s, 3d12h. Days are used from 48 hours on."""
    seconds = max(0, int(span.total_seconds()))
    days, hours = divmod(seconds // 3600, 24) if seconds >= 48 * 3600 else (0, seconds // 3600)
    parts = [(days, "d"), (hours, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    first = next((index for index, (number, _) in enumerate(parts) if number), len(parts) - 1)
    text = "".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number)
    return text or "0s"


def duration(text: str) -> timedelta:
    """Parse a string that matches DURATION."""
    parts = re.findall(r"([0-9]+)([hms])", text)
    return timedelta(**{_UNITS[unit]: int(number) for number, unit in parts})
