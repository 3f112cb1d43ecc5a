"""Error handling around each stream of external input, none of which may end the process or delay other work."""

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp

from keyturn.core.errors import KeyturnError
from keyturn.metrics import Metrics
from keyturn.reconcile.reports import describe_bug

_FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
# An API server that was restarted should be noticed soon.
LONGEST_RECONNECT_SECONDS = 5.0
_LOG_INTERVAL_SECONDS = 60
# Short enough for other work, and long enough for dozens of ordinary objects.
_BREAK_AFTER_SECONDS = 0.005

_log = logging.getLogger(__name__)


class Boundary:
    """Logs the errors of a stream at most once a minute, and counts the unexpected ones."""

    def __init__(
        self, component: str, what: str, metrics: Metrics, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._what = what
        self._count = metrics.internal_errors.labels(component).inc
        self._monotonic = monotonic
        self._logged_at = float("-inf")

    def report(self, error: Exception) -> float:
        """Log and count an error; returns the longest pause after it in seconds."""
        is_expected = isinstance(error, KeyturnError | aiohttp.ClientError | OSError)
        if not is_expected:
            self._count()
        if self._monotonic() - self._logged_at >= _LOG_INTERVAL_SECONDS:
            self._logged_at = self._monotonic()
            if isinstance(error, KeyturnError):
                problem = str(error)
            elif isinstance(error, aiohttp.ClientResponseError):
                problem = f"HTTP {error.status}"
            else:
                problem = describe_bug(error)
            level = logging.WARNING if is_expected else logging.ERROR
            _log.log(level, "%s broke (%s); retrying", self._what, problem)
        return LONGEST_RECONNECT_SECONDS if is_expected else LONGEST_PAUSE_SECONDS


class Backoff:
    """Spaces the restarts of a stream."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._resumed_at = monotonic()
        self._pause = 0.0

    def next_pause(self, longest: float = LONGEST_PAUSE_SECONDS) -> float:
        """Return how many seconds to wait before the stream is started again.

        The pause doubles each time, and is short again after a stream that worked for longer than the longest one.
        """
        has_worked = self._monotonic() - self._resumed_at > LONGEST_PAUSE_SECONDS
        pause = _FIRST_PAUSE_SECONDS if has_worked or not self._pause else self._pause * 2
        self._pause = min(pause, longest)
        self._resumed_at = self._monotonic() + self._pause
        return self._pause


class Breaks:
    """Lets other work continue after each 5 ms in which a stream handles objects that have already arrived.

    Not after each object: while other work takes long, for example because many tenants use large CA bundles, only a
    few dozen objects would be handled per second, and the changes of all tenants would wait.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._since = monotonic()

    async def take(self) -> None:
        """Take a break if one is due. Called after each object."""
        if self._monotonic() - self._since >= _BREAK_AFTER_SECONDS:
            await asyncio.sleep(0)
            self._since = self._monotonic()
