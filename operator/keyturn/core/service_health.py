"""Which systems fail now: the first success after a failure is news for all that wait for it."""

from collections.abc import Callable

_LEAST_SECONDS = 10.0


class ServiceHealth:
    """Systems by name. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._down: set[str] = set()
        self._told: dict[str, float] = {}
        self._tell: Callable[[str], None] = lambda _: None

    def on_recovery(self, tell: Callable[[str], None]) -> None:
        """Have `tell(system)` called when an outage is over."""
        self._tell = tell

    def failed(self, system: str) -> None:
        """Note that a system gave no answer, or none that helps."""
        self._down.add(system)

    def worked(self, system: str, now: float) -> None:
        """Note a success. It is told at most every 10 s, so that a brownout hurries nobody much."""
        if system in self._down and now - self._told.get(system, now - _LEAST_SECONDS) >= _LEAST_SECONDS:
            self._down.discard(system)
            self._told[system] = now
            self._tell(system)
