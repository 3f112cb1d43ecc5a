"""The real clock, for servers that tests start."""

from datetime import UTC, datetime


def real_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - servers of tests use the real time
