"""The real clock."""

from datetime import UTC, datetime


def now() -> datetime:
    """What time it is."""
    return datetime.now(UTC)  # noqa: TID251 - the real clock
