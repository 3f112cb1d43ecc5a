"""The real clock, which the emulator uses."""

from datetime import UTC, datetime


def real_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the emulator uses the real clock
