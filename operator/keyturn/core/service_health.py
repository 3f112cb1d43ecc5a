"""Tracks which services are failing, so that requests can be retried as soon as one recovers."""

from collections.abc import Callable

from keyturn.core.lru import LruDict

_MIN_INTERVAL_SECONDS, _MAX_SERVICES = 10.0, 4096


class ServiceHealth:
    """Failing services by name, such as `sts/eu-west-1`. Times are seconds of a monotonic clock.

    The name of a service contains a host or a region, which users choose, so names are forgotten if there are many. A
    service is remembered as long as a TokenRequest waits for it. Otherwise, a tenant with thousands of failing hosts
    could keep the requests of others from being retried when AWS recovers.
    """

    def __init__(self) -> None:
        # In the order of their last failures.
        self._failing: dict[str, None] = {}
        self._most = _MAX_SERVICES
        self._recovered_at: LruDict[str, float] = LruDict(_MAX_SERVICES)
        self._notify: Callable[[str], None] = lambda _: None
        self._is_awaited: Callable[[str], bool] = lambda _: False

    def on_recovery(self, notify: Callable[[str], None], is_awaited: Callable[[str], bool] = lambda _: False) -> None:
        """Call `notify(service)` whenever a service has recovered.

        `is_awaited` returns whether a TokenRequest is retried when a service recovers.
        """
        self._notify, self._is_awaited = notify, is_awaited

    def failed(self, service: str) -> None:
        """Record that a service is unavailable."""
        self._failing.pop(service, None)
        self._failing[service] = None
        if len(self._failing) > self._most:
            names = list(self._failing)
            # A TokenRequest waits for a service only after the attempt that failed, so the newest are kept anyway.
            older, newer = names[: len(names) // 2], names[len(names) // 2 :]
            self._failing = dict.fromkeys([*filter(self._is_awaited, older), *newer])
            self._most = max(_MAX_SERVICES, 2 * len(self._failing))

    def worked(self, service: str, now: float) -> None:
        """Record a success.

        A recovery is reported at most every 10 s, so that a flapping service does not cause bursts of retries.
        """
        last = self._recovered_at.get(service)
        if service in self._failing and (last is None or now - last >= _MIN_INTERVAL_SECONDS):
            del self._failing[service]
            self._recovered_at.put(service, now)
            self._notify(service)
