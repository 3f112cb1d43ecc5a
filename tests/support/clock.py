"""The clock that the emulator lives by."""

from datetime import UTC, datetime


def real_now() -> datetime:
    """The time."""
    return datetime.now(UTC)  # noqa: TID251 - the emulator lives by the real clock
