"""Limits the memory of the CA bundles that the TokenRequests of a namespace trust at the same time."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ssl import SSLContext
from weakref import ref

from keyturn.core.errors import ThrottledError

_MAX_LENGTH = 512 * 1024
_POLL_SECONDS, _LONGEST_WAIT_SECONDS = 0.1, 15
_RETRY_AFTER = timedelta(seconds=5)
# Longer than a request to an issuer takes: a context that still exists then only waits for the garbage collector.
_LONGEST_SECONDS = 60


@dataclass(eq=False, slots=True)
class _Use:
    """A bundle that is being loaded or, with `context`, that a request uses."""

    namespace: str
    length: int
    context: ref[SSLContext] | None = None
    ends_at: float = math.inf

    def has_ended(self, now: float) -> bool:
        return now >= self.ends_at or (self.context is not None and self.context() is None)


class BundleMemory:
    """The bundles in use, by namespace. A single bundle is always allowed.

    OpenSSL needs about 8 bytes of memory for each character of usual certificates. It needs them until the issuer has
    responded, and one tenant can occupy almost all workers with slow issuers.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._uses: list[_Use] = []

    @asynccontextmanager
    async def reserve(self, namespace: str, length: int) -> AsyncIterator[Callable[[SSLContext], None]]:
        """Reserve memory for a bundle of `length` characters. Yields a function to call with the context of the bundle.

        The memory is released when the context is deleted, or if the block raises an exception. Raises ThrottledError
        if too much memory is still in use after 15 s.
        """
        started = self._monotonic()
        while not self._has_room(namespace, length):
            if self._monotonic() - started > _LONGEST_WAIT_SECONDS:
                message = "other requests of this namespace are using large CA bundles"
                raise ThrottledError(message, retry_after=_RETRY_AFTER, nothing_sent=True)
            await asyncio.sleep(_POLL_SECONDS)
        use = _Use(namespace, length)
        self._uses.append(use)

        def hold(context: SSLContext) -> None:
            use.context, use.ends_at = ref(context), self._monotonic() + _LONGEST_SECONDS

        try:
            yield hold
        except BaseException:
            self._uses = [other for other in self._uses if other is not use]
            raise

    def _has_room(self, namespace: str, length: int) -> bool:
        now = self._monotonic()
        self._uses = [use for use in self._uses if not use.has_ended(now)]
        in_use = sum(use.length for use in self._uses if use.namespace == namespace)
        return not in_use or in_use + length <= _MAX_LENGTH
