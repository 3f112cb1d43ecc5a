"""Tracks which services are failing, so that requests can be retried as soon as one recovers."""

from collections.abc import Callable

from keyturn.core.lru import LruDict

_MIN_INTERVAL_SECONDS, _MAX_SERVICES = 10.0, 4096


class ServiceHealth:
    """Failing services by name, such as `sts/eu-west-1`. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        # The name of a service contains a host or a region, which users choose.
        self._failing: LruDict[str, bool] = LruDict(_MAX_SERVICES)
        self._recovered_at: LruDict[str, float] = LruDict(_MAX_SERVICES)
        self._notify: Callable[[str], None] = lambda _: None

    def on_recovery(self, notify: Callable[[str], None]) -> None:
        """Call `notify(service)` whenever a service has recovered."""
        self._notify = notify

    def failed(self, service: str) -> None:
        """Record that a service is unavailable."""
        self._failing.put(service, value=True)

    def worked(self, service: str, now: float) -> None:
        """Record a success.

        A recovery is reported at most every 10 s, so that a flapping service does not cause bursts of retries.
        """
        last = self._recovered_at.get(service)
        if self._failing.get(service) and (last is None or now - last >= _MIN_INTERVAL_SECONDS):
            self._failing.remove(service)
            self._recovered_at.put(service, now)
            self._notify(service)
