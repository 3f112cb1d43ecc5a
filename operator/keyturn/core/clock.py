"""Detects when the clock is set."""

from datetime import datetime, timedelta

_STEP = timedelta(seconds=5)  # smaller steps are NTP corrections


class ClockSteps:
    """Compares the clock with a monotonic clock (in seconds), which does not change when the clock is set."""

    def __init__(self, now: datetime, monotonic: float) -> None:
        self._offset = now - timedelta(seconds=monotonic)

    def observe(self, now: datetime, monotonic: float) -> timedelta:
        """Return by how much the clock was set since the last observation; zero if it was not."""
        offset = now - timedelta(seconds=monotonic)
        step, self._offset = offset - self._offset, offset
        return step if abs(step) >= _STEP else timedelta()
