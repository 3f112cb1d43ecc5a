"""All that is outside the spine: where things are kept, the exchanges, the clocks and the dice."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from weakref import WeakValueDictionary

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.token_request import Request
from keyturn.core.issuance import Issuance, TargetSecret
from keyturn.core.pipeline_values import PipelineValues, SourceValues
from keyturn.core.token_family import Intent, StoredToken
from keyturn.metrics import Metrics


class Store(Protocol):
    """Where sources are read, targets and rotated tokens kept. All of it raises the errors of core.errors."""

    async def read_source(self, request: Request) -> SourceValues:
        """Read the source, fresh; SourceNotFound where a Secret or a key is not there."""

    async def read_target(self, request: Request) -> TargetSecret | None:
        """Find the target as it is, or as a watch that is still true saw it; None where there is none."""

    async def dry_run(self, request: Request) -> None:
        """Try the write without writing: TargetConflict or WriteDenied before anything is exchanged."""

    async def write(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        """Write the data and the marks at once, and let go of what the request wrote elsewhere before."""

    async def apply_metadata(self, request: Request, issuance: Issuance) -> None:
        """Write marks, labels, annotations and owner anew around the data that the target holds."""


class TokenStore(Protocol):
    """Where tokens are kept that their issuer rotates. All of it raises the errors of core.errors."""

    async def read(self, request: Request) -> StoredToken | None:
        """Read the token Secret, fresh; None where there is none."""

    async def create(self, request: Request, kept: StoredToken) -> StoredToken:
        """Make the token Secret; Unavailable where there is one by now."""

    async def keep(self, request: Request, kept: StoredToken, *, dry_run: bool = False) -> StoredToken:
        """Write all of a kept token in one request, or only try it; Unavailable where another wrote meanwhile."""

    async def save(self, request: Request, kept: StoredToken) -> StoredToken:
        """Write a token that was answered, also when the Lease is lost, and whatever happened meanwhile.

        Only where what is stored came after it, it is not written, and what is stored is returned.
        """


@dataclass(slots=True)
class TokenLocks:
    """One use of a token Secret at a time; and for how long an intent has been watched unchanged, by our clock.

    `is_dead` says that the holder of an intent is gone for sure: such a one need not be watched.
    """

    monotonic: Callable[[], float]
    is_dead: Callable[[str], bool] = lambda _: False
    _locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _watched: dict[tuple[str, str], tuple[Intent, float]] = field(default_factory=dict)

    @asynccontextmanager
    async def acquire(self, request: Request) -> AsyncIterator[None]:
        """Wait for the token Secret of a request that may spend a token; any other has its turn at once."""
        if not request.spec.consumption:
            yield
            return
        lock = self._locks.setdefault(token_place(request), asyncio.Lock())
        async with lock:
            yield

    def is_taken(self, request: Request) -> bool:
        """Whether another request spends the token of the same source just now."""
        lock = self._locks.get(token_place(request)) if request.spec.consumption else None
        return lock is not None and lock.locked()

    def watched(self, request: Request, intent: Intent) -> float:
        """For how many seconds this very intent has been seen; the first look at it starts the count."""
        if self.is_dead(intent.holder):
            return math.inf
        place = token_place(request)
        seen, since = self._watched.get(place, (None, 0.0))
        if seen != intent:
            since = self.monotonic()
            self._watched[place] = (intent, since)
        return self.monotonic() - since


def token_place(request: Request) -> tuple[str, str]:
    """Namespace and name of the token Secret."""
    consumption = request.spec.consumption
    return request.namespace, consumption.secret if consumption else ""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The stores, the exchanges, the clocks and the dice (in [0, 1)).

    `permit` raises UnavailableError unless this process may write for so many seconds to come; `holder` names it.
    """

    store: Store
    tokens: TokenStore
    exchange: Callable[[Request, StepSpec, PipelineValues], Awaitable[PipelineValues]]
    now: Callable[[], datetime]
    rand: Callable[[], float]
    token_locks: TokenLocks
    metrics: Metrics
    check_lease: Callable[[float], None] = lambda _: None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    holder: str = "keyturn"
    least_interval: timedelta = timedelta(seconds=10)
