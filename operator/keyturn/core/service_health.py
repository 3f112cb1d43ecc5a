"""Tracks which services are failing, so that requests can be retried as soon as one recovers."""

from collections.abc import Callable

_MIN_INTERVAL_SECONDS = 10.0


class ServiceHealth:
    """Failing services by name, such as `sts/eu-west-1`. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._failing: set[str] = set()
        self._recovered_at: dict[str, float] = {}
        self._notify: Callable[[str], None] = lambda _: None

    def on_recovery(self, notify: Callable[[str], None]) -> None:
        """Call `notify(service)` whenever a service has recovered."""
        self._notify = notify

    def failed(self, service: str) -> None:
        """Record that a service is unavailable."""
        self._failing.add(service)

    def worked(self, service: str, now: float) -> None:
        """Record a success.

        A recovery is reported at most every 10 s, so that a flapping service does not cause bursts of retries.
        """
        last = self._recovered_at.get(service, now - _MIN_INTERVAL_SECONDS)
        if service in self._failing and now - last >= _MIN_INTERVAL_SECONDS:
            self._failing.discard(service)
            self._recovered_at[service] = now
            self._notify(service)
