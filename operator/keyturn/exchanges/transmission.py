"""Tracks whether the first byte of a request may have left this process; the statuses of requests without effect."""

import math
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from keyturn.core.pipeline_values import PipelineValues

# RFC 9110 sections 15.5.9 and 15.6.4, RFC 8470 section 5.2: the request was not processed. Proxies return these, too.
NOT_PROCESSED = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.SERVICE_UNAVAILABLE)


class AbandonedError(Exception):
    """The caller no longer waits for the response, so the request must not be sent."""


class Transmission:
    """One request that consumes a token. `begin` and `abandon` may be called from different threads.

    A thread that calls AWS cannot be cancelled, so after a timeout it could still send its request. Each method sets
    its own flag before it reads the other's, so at least one of two simultaneous calls sees the other.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.has_begun = False
        self._is_abandoned = False
        self._monotonic = monotonic
        self._deadline = math.inf

    def limit(self, seconds: float) -> None:
        """Allow the request to begin only in the next `seconds`.

        If the process is suspended for longer, another one may have used the token.
        """
        self._deadline = self._monotonic() + seconds

    def begin(self) -> None:
        """Record that the next bytes are about to be sent. Raises AbandonedError after `abandon` or the deadline."""
        if self._monotonic() >= self._deadline:
            raise AbandonedError
        self.has_begun = True
        if self._is_abandoned:
            raise AbandonedError

    def abandon(self) -> bool:
        """Prevent the request from being sent from now on. Returns whether it may have been sent already."""
        self._is_abandoned = True
        return self.has_begun


Send = Callable[[Transmission], Awaitable[PipelineValues]]
