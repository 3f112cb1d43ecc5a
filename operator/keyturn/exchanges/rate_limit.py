"""The pace of calls to one service, in one region, for one identity: learned from its throttles."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import timedelta

_SLOWEST, _FASTEST = 0.5, 200.0  # calls a second; past the fastest there is no pace at all
_LONGEST_WAIT_SECONDS = 5.0
_BURST_SECONDS = 1.0
_KEPT = 1024
_LONGEST_TOLD_SECONDS = 3600


@dataclass(slots=True)
class RateLimiter:
    """How fast may be called: as fast as one likes until a throttle, then by what was seen to go through."""

    rate: float = _FASTEST
    _free_at: float = 0.0
    _cut_at: float = -_BURST_SECONDS
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=32))

    def wait(self, now: float) -> float:
        """Take the next turn, and tell how many seconds away it is; 0.0 where there is no pace."""
        self._recent.append(now)
        if self.rate >= _FASTEST and now >= self._free_at:
            return 0.0
        turn = max(now, self._free_at)
        if turn - now <= _LONGEST_WAIT_SECONDS:
            self._free_at = turn + 1 / self.rate
        return turn - now

    def throttled(self, now: float, retry_after: timedelta) -> None:
        """Go slower: seven tenths of what was tried of late, after the pause that was asked for."""
        self._free_at = max(self._free_at, now + max(retry_after.total_seconds(), 1 / self.rate))
        if now - self._cut_at < _BURST_SECONDS:
            return  # Calls that were in flight together are one burst: to cut for each would all but stop.
        self._cut_at = now
        span = now - self._recent[0] if len(self._recent) > 1 else 1.0
        tried = len(self._recent) / max(span, 0.05)
        self.rate = max(_SLOWEST, min(self.rate, tried) * 0.7)
        self._free_at = max(self._free_at, now + 1 / self.rate)

    def went_through(self) -> None:
        """Go a little faster again."""
        self.rate = min(self.rate * 1.02, _FASTEST)


class RateLimiters:
    """A pace for each key, the least recently used forgotten."""

    def __init__(self) -> None:
        self._rate_limiters: OrderedDict[Hashable, RateLimiter] = OrderedDict()

    def of(self, key: Hashable) -> RateLimiter:
        """Find the pace of a key."""
        rate_limiter = self._rate_limiters.setdefault(key, RateLimiter())
        self._rate_limiters.move_to_end(key)
        if len(self._rate_limiters) > _KEPT:
            self._rate_limiters.popitem(last=False)
        return rate_limiter


def is_too_long(wait: float) -> bool:
    """Whether a worker should not wait for its turn, but come back then."""
    return wait > _LONGEST_WAIT_SECONDS


def told_wait(seconds: str) -> timedelta:
    """Read the seconds that a service asks us to wait (RFC 9110 section 10.2.3): at most an hour, 0 for none."""
    readable = seconds.isdecimal() and len(seconds) < 10  # noqa: PLR2004 - int() refuses very many digits
    return timedelta(seconds=min(int(seconds), _LONGEST_TOLD_SECONDS)) if readable else timedelta()
