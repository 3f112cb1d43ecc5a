"""Times as they are stored, written and read: aware, UTC, in whole seconds."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from msgspec import Meta

# A time without a zone cannot be compared with ours: whoever writes one has edited what we wrote.
Moment = Annotated[datetime, Meta(tz=True)]
# A duration in a manifest, such as 1h30m: the API server's CEL reads the same.
DURATION = r"^([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?\Z"
_UNITS = {"h": "hours", "m": "minutes", "s": "seconds"}


def whole(moment: datetime) -> datetime:
    """Cut to whole seconds, UTC."""
    return moment.astimezone(UTC).replace(microsecond=0)


def rfc3339(moment: datetime) -> str:
    """Write a UTC time as every SDK reads it: whole seconds and a Z (JavaScript and Rust refuse +00:00)."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(told: str | None) -> datetime | None:
    """Read a time of a status; None for none, and for what is no time: anybody may write a status."""
    try:
        moment = datetime.fromisoformat(told or "")
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
    """Read what DURATION allows."""
    found = re.findall(r"([0-9]+)([hms])", text)
    return timedelta(**{_UNITS[unit]: int(number) for number, unit in found})
