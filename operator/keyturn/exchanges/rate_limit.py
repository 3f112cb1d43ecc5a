"""Limits on calls: a rate per AWS service, region and quota owner, learned from throttling; concurrency per issuer."""

from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keyturn.core.clock import until
from keyturn.core.lru import LruDict
from keyturn.core.renewal_time import LONGEST_RETRY_AFTER

_MIN_RATE, _MAX_RATE = 0.5, 200.0  # calls per second; at the maximum nothing is limited
_MAX_WAIT_SECONDS = 5.0
_BURST_SECONDS = 1.0
# The TokenRequest whose call was throttled waits as long as the service requires, others at most this long.
_LONGEST_PAUSE_SECONDS = 60.0
# How much later than planned a call may return: no worker may be free, and the minimum interval applies if the attempt
# repeats other exchanges.
_RETURN_MARGIN_SECONDS = 15.0
_MAX_RETURN_SECONDS = 30.0
# After this time, no rejected call is expected to return.
_LONGEST_ABSENCE_SECONDS = 60.0
# An invited call starts as soon as a worker is free. If its TokenRequest was deleted, its slot becomes free again.
_INVITATION_SECONDS = 0.5
# A namespace without a call may start one above the limit, up to this many times the limit.
_MAX_CALLS_FACTOR = 16
_MAX_LIMITERS = 1024


@dataclass(slots=True)
class RateLimiter:
    """Unlimited until the first throttling error, then limited to the rate that the service accepted.

    While calls of other namespaces wait, a namespace that already has a slot gets another one only if it starts soon.
    Otherwise, a namespace with many calls would take all slots.
    """

    rate: float = _MAX_RATE
    _free_at: float = 0.0
    _reduced_at: float = -_BURST_SECONDS
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=32))
    # When the last slot of each namespace starts.
    _slots: dict[str, float] = field(default_factory=dict)
    # Until when the rejected calls of each namespace are expected to return.
    _waiting: dict[str, float] = field(default_factory=dict)

    def reserve(self, now: float, namespace: str) -> float:
        """Reserve the next slot and return the seconds until it starts. A slot too far away is not reserved."""
        self._recent.append(now)
        if self.rate >= _MAX_RATE and now >= self._free_at:
            return 0.0
        self._waiting = {name: until for name, until in self._waiting.items() if until > now}
        wait_seconds = self.wait_seconds(now, namespace)
        if is_too_long(wait_seconds):
            self._waiting[namespace] = now + wait_seconds + _RETURN_MARGIN_SECONDS
            return wait_seconds
        self._waiting.pop(namespace, None)
        self._slots = {name: slot for name, slot in self._slots.items() if slot > now}
        self._slots[namespace] = now + wait_seconds
        self._free_at = now + wait_seconds + 1 / self.rate
        return wait_seconds

    def wait_seconds(self, now: float, namespace: str) -> float:
        """Return the seconds until the next slot for a namespace, without reserving it."""
        wait_seconds = max(0.0, self._free_at - now)
        is_soon, has_slot = wait_seconds <= _MAX_WAIT_SECONDS / 2, self._slots.get(namespace, now) > now
        do_others_wait = any(until > now for name, until in self._waiting.items() if name != namespace)
        return wait_seconds + _MAX_WAIT_SECONDS if has_slot and do_others_wait and not is_soon else wait_seconds

    def throttled(self, now: float, retry_after: timedelta) -> None:
        """Reduce the rate to 70% of the recent rate of calls, after a pause of `retry_after`, but at most a minute."""
        pause = min(retry_after.total_seconds(), _LONGEST_PAUSE_SECONDS)
        self._free_at = max(self._free_at, now + max(pause, 1 / self.rate))
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
    """Limits the number of calls in progress. A call above the limit is rejected and must be made again later.

    A namespace without a call in progress may start one above the limit, up to `most` in total, so that it need not
    wait for the calls of others.

    When a call ends, the limiter invites a rejected one: it calls `resume` with the uid of its TokenRequest, and keeps
    a slot for it for half a second, unless `resume` returns False because the TokenRequest does not exist. Namespaces
    alternate, so a namespace with many calls delays another one by at most one call. Rejected calls also return without
    an invitation, one after the other, at intervals that correspond to the mean duration of recent calls.
    """

    def __init__(self, limit: int, resume: Callable[[str], bool] = lambda _: True, most: int = 0) -> None:
        self._limit, self._most = limit, max(limit, most)
        self._resume = resume
        self._in_progress: Counter[str] = Counter()
        self._mean_seconds = 1.0
        self._last_return = 0.0
        # The earliest time of each rejected call, by namespace and uid. An invited one moves its namespace to the end.
        self._waiting: dict[str, dict[str, float]] = {}
        # The namespace of each invited call, and until when a slot is kept for it, by uid.
        self._invited: dict[str, tuple[str, float]] = {}
        self._used_at = 0.0

    def is_used(self, now: float) -> bool:
        """Whether a call is in progress or may return."""
        return bool(self._in_progress) or (
            bool(self._waiting or self._invited) and now - self._used_at < _LONGEST_ABSENCE_SECONDS
        )

    def acquire(self, now: float, namespace: str, uid: str, pause: float = 0.0) -> float:
        """Start a call and return 0, or return the seconds after which to try again. Call `release` afterwards.

        `pause` is the shortest time after which the call can return.
        """
        self._used_at = now
        self._drop_invitations(now)
        if self._is_free(namespace, len(self._invited.keys() - {uid})):
            self._invited.pop(uid, None)
            self._remove(namespace, uid)
            self._in_progress[namespace] += 1
            return 0.0
        self._waiting.setdefault(namespace, {})[uid] = now + pause
        if pause:
            return pause
        self._last_return = max(self._last_return, now) + self._mean_seconds / self._limit
        self._last_return = min(self._last_return, now + _MAX_RETURN_SECONDS)
        return self._last_return - now

    def release(self, now: float, seconds: float, namespace: str) -> None:
        """End a call that took this long, and invite the next one."""
        self._in_progress[namespace] -= 1
        self._in_progress = +self._in_progress
        self._mean_seconds += (seconds - self._mean_seconds) / 5
        self._drop_invitations(now)
        while call := self._next(now):
            next_namespace, uid = call
            returns_at = self._remove(next_namespace, uid)
            if calls := self._waiting.pop(next_namespace, None):
                self._waiting[next_namespace] = calls
            if returns_at > now or self._resume(uid):
                self._invited[uid] = next_namespace, max(now, returns_at) + _INVITATION_SECONDS

    def _next(self, now: float) -> tuple[str, str] | None:
        """Return the next call that can return soon, of the namespace with the fewest calls in progress."""
        latest, invited = now + _INVITATION_SECONDS, {namespace for namespace, _ in self._invited.values()}
        for namespace in sorted(self._waiting, key=lambda name: self._in_progress[name]):
            if not self._is_free(namespace, len(self._invited), has_invited=namespace in invited):
                continue
            for uid, returns_at in self._waiting[namespace].items():
                if returns_at <= latest:
                    return namespace, uid
        return None

    def _is_free(self, namespace: str, invited: int, *, has_invited: bool = False) -> bool:
        """Whether a slot is free for a namespace, besides the `invited` ones that are kept for invited calls."""
        number = self._in_progress.total() + invited
        is_idle = not self._in_progress[namespace] and not has_invited
        return number < (self._most if is_idle else self._limit)

    def _remove(self, namespace: str, uid: str) -> float:
        calls = self._waiting.get(namespace, {})
        returns_at = calls.pop(uid, 0.0)
        if not calls:
            self._waiting.pop(namespace, None)
        return returns_at

    def _drop_invitations(self, now: float) -> None:
        self._invited = {uid: (name, until) for uid, (name, until) in self._invited.items() if until > now}


class RateLimiters:
    """A rate limiter for each key. The least recently used is dropped when there are too many."""

    def __init__(self) -> None:
        self._rate_limiters: LruDict[Hashable, RateLimiter] = LruDict(_MAX_LIMITERS)

    def get(self, key: Hashable) -> RateLimiter:
        """Return the rate limiter of a key. It is created if it does not exist."""
        return self._rate_limiters.get(key) or self._rate_limiters.put(key, RateLimiter())


class ConcurrencyLimiters:
    """A concurrency limiter for each endpoint. Users choose the endpoints, so those that are not used are dropped."""

    def __init__(self, limit: int, resume: Callable[[str], bool]) -> None:
        self._limit = limit
        self._resume = resume
        self._limiters: dict[Hashable, ConcurrencyLimiter] = {}

    def __len__(self) -> int:
        return len(self._limiters)

    def get(self, endpoint: Hashable) -> ConcurrencyLimiter:
        """Return the limiter of an endpoint. It is created if it does not exist."""
        limiter = ConcurrencyLimiter(self._limit, self._resume, _MAX_CALLS_FACTOR * self._limit)
        return self._limiters.setdefault(endpoint, limiter)

    def drop_unused(self, now: float) -> None:
        """Drop the limiters that no call uses."""
        self._limiters = {endpoint: limiter for endpoint, limiter in self._limiters.items() if limiter.is_used(now)}


def is_too_long(wait_seconds: float) -> bool:
    """Whether a worker should return to its queue instead of waiting for a slot."""
    return wait_seconds > _MAX_WAIT_SECONDS


def parse_retry_after(value: str, now: datetime | None = None) -> timedelta:
    """Parse Retry-After (RFC 9110 section 10.2.3): at most an hour, zero if it is invalid.

    It is a number of seconds or, if `now` is the time by the service's clock, a date.
    """
    if value.isdecimal() and len(value) < 10:  # noqa: PLR2004 - int() rejects very many digits
        wait = timedelta(seconds=int(value))
    else:
        wait = until(value, now) if now else timedelta()
    return min(max(wait, timedelta()), LONGEST_RETRY_AFTER)
