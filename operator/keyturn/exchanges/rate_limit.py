"""Limits on calls: a rate per AWS service, region and quota owner, learned from throttling; concurrency per issuer."""

from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import timedelta

from keyturn.core.lru import LruDict
from keyturn.core.renewal_time import LONGEST_RETRY_AFTER

_MIN_RATE, _MAX_RATE = 0.5, 200.0  # calls per second; at the maximum nothing is limited
_MAX_WAIT_SECONDS = 5.0
_BURST_SECONDS = 1.0
_MAX_RETURN_SECONDS = 30.0
# A request comes back when a worker is free, and after the minimum interval if exchanges before this one are repeated.
_RETURN_MARGIN_SECONDS = 15.0
_MAX_LIMITERS = 1024


@dataclass(slots=True)
class RateLimiter:
    """Unlimited until the first throttling error, then limited to the rate that the service accepted."""

    rate: float = _MAX_RATE
    _free_at: float = 0.0
    _reduced_at: float = -_BURST_SECONDS
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=32))

    def reserve(self, now: float) -> float:
        """Reserve the next slot and return the seconds until it starts. A slot too far away is not reserved."""
        self._recent.append(now)
        if self.rate >= _MAX_RATE and now >= self._free_at:
            return 0.0
        slot = max(now, self._free_at)
        if not is_too_long(slot - now):
            self._free_at = slot + 1 / self.rate
        return slot - now

    def wait_seconds(self, now: float) -> float:
        """Return the seconds until the next slot, without reserving it."""
        return max(0.0, self._free_at - now)

    def throttled(self, now: float, retry_after: timedelta) -> None:
        """Reduce the rate to 70% of the recent rate of calls, after the pause that the service requires."""
        self._free_at = max(self._free_at, now + max(retry_after.total_seconds(), 1 / self.rate))
        if now - self._reduced_at < _BURST_SECONDS:
            return  # Calls that were in flight together are one burst: a reduction for each would nearly stop calls.
        self._reduced_at = now
        span = now - self._recent[0] if len(self._recent) > 1 else 1.0
        attempted = len(self._recent) / max(span, 0.05)
        self.rate = max(_MIN_RATE, min(self.rate, attempted) * 0.7)
        self._free_at = max(self._free_at, now + 1 / self.rate)

    def succeeded(self) -> None:
        """Increase the rate by 2%."""
        self.rate = min(self.rate * 1.02, _MAX_RATE)


class ConcurrencyLimiter:
    """Limits the number of calls in progress. A call above the limit does not wait but is retried later.

    Each rejected call gets its own time, spaced by the mean duration of recent calls, so that rejected calls are not
    retried all at once or more often than necessary. While another namespace waits, a namespace has at most half of the
    calls: otherwise, a namespace that always has calls waiting would leave none to the others.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_progress: Counter[str] = Counter()
        self._mean_seconds = 1.0
        self._last_return = 0.0
        # The time until which each namespace waits.
        self._waiting: dict[str, float] = {}

    def acquire(self, now: float, namespace: str) -> float:
        """Start a call and return 0, or return the seconds after which to try again. Call `release` afterwards."""
        self._waiting = {name: until for name, until in self._waiting.items() if until > now}
        do_others_wait = bool(self._waiting.keys() - {namespace})
        share = max(1, self._limit // 2) if do_others_wait else self._limit
        if self._in_progress.total() < self._limit and self._in_progress[namespace] < share:
            self._in_progress[namespace] += 1
            self._waiting.pop(namespace, None)
            return 0.0
        self._last_return = max(self._last_return, now) + self._mean_seconds / self._limit
        self._last_return = min(self._last_return, now + _MAX_RETURN_SECONDS)
        self._waiting[namespace] = self._last_return + _RETURN_MARGIN_SECONDS
        return self._last_return - now

    def release(self, seconds: float, namespace: str) -> None:
        """End a call that took this long."""
        self._in_progress[namespace] -= 1
        self._mean_seconds += (seconds - self._mean_seconds) / 5


class RateLimiters:
    """A rate limiter for each key. The least recently used is dropped when there are too many."""

    def __init__(self) -> None:
        self._rate_limiters: LruDict[Hashable, RateLimiter] = LruDict(_MAX_LIMITERS)

    def get(self, key: Hashable) -> RateLimiter:
        """Return the rate limiter of a key. It is created if it does not exist."""
        return self._rate_limiters.get(key) or self._rate_limiters.put(key, RateLimiter())


def is_too_long(wait_seconds: float) -> bool:
    """Whether a worker should return to its queue instead of waiting for a slot."""
    return wait_seconds > _MAX_WAIT_SECONDS


def parse_retry_after(seconds: str) -> timedelta:
    """Parse a number of seconds as in Retry-After (RFC 9110 section 10.2.3): at most an hour, zero if invalid."""
    is_valid = seconds.isdecimal() and len(seconds) < 10  # noqa: PLR2004 - int() rejects very many digits
    return min(timedelta(seconds=int(seconds)), LONGEST_RETRY_AFTER) if is_valid else timedelta()
