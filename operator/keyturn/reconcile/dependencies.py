"""What a reconciliation depends on: stores, exchanges, clocks and randomness."""

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
    """Reads sources and writes targets. Raises the errors of core.errors."""

    async def read_source(self, request: Request) -> SourceValues:
        """Read the source, uncached. Raises RefusedError (SourceNotFound) if a Secret or a key does not exist."""

    async def read_target(self, request: Request) -> TargetSecret | None:
        """Return the target, from a watch if its cache is not stale; None if it does not exist."""

    async def dry_run(self, request: Request) -> None:
        """Try the write. Raises RefusedError (TargetConflict, WriteDenied) before anything is exchanged."""

    async def write(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        """Write data and issuance record in one request, and release targets that the request wrote before."""

    async def apply_metadata(self, request: Request, issuance: Issuance) -> None:
        """Write issuance record, labels, annotations and owner, and leave the data of the target unchanged."""


class TokenStore(Protocol):
    """Stores tokens that their issuer rotates. Raises the errors of core.errors."""

    async def read(self, request: Request) -> StoredToken | None:
        """Read the token Secret, uncached; None if it does not exist."""

    async def create(self, request: Request, stored: StoredToken) -> StoredToken:
        """Create the token Secret. Raises UnavailableError if it exists by now."""

    async def keep(self, request: Request, stored: StoredToken, *, dry_run: bool = False) -> StoredToken:
        """Write a stored token in one request. Raises UnavailableError if the Secret changed meanwhile."""

    async def save(self, request: Request, stored: StoredToken) -> StoredToken:
        """Write a token that was received, even if the Lease is lost or the Secret changed meanwhile.

        If the Secret contains a newer token, nothing is written, and that token is returned.
        """


@dataclass(slots=True)
class TokenLocks:
    """One user of a token Secret at a time, and how long an intent has been seen unchanged, by our own clock.

    `is_dead` tells whether the holder of an intent has certainly ended; then nobody has to wait.
    """

    monotonic: Callable[[], float]
    is_dead: Callable[[str], bool] = lambda _: False
    _locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _seen: dict[tuple[str, str], tuple[Intent, float]] = field(default_factory=dict)

    @asynccontextmanager
    async def acquire(self, request: Request) -> AsyncIterator[None]:
        """Wait for the lock of the token Secret; a request that consumes nothing needs none."""
        if not request.spec.consumption:
            yield
            return
        lock = self._locks.setdefault(token_place(request), asyncio.Lock())
        async with lock:
            yield

    def is_taken(self, request: Request) -> bool:
        """Whether another request is consuming the token of the same source."""
        lock = self._locks.get(token_place(request)) if request.spec.consumption else None
        return lock is not None and lock.locked()

    def seconds_seen(self, request: Request, intent: Intent) -> float:
        """Return for how many seconds this intent has been seen unchanged; the first call starts the count."""
        if self.is_dead(intent.holder):
            return math.inf
        place = token_place(request)
        seen, since = self._seen.get(place, (None, 0.0))
        if seen != intent:
            since = self.monotonic()
            self._seen[place] = (intent, since)
        return self.monotonic() - since


def token_place(request: Request) -> tuple[str, str]:
    """Return namespace and name of the token Secret."""
    consumption = request.spec.consumption
    return request.namespace, consumption.secret if consumption else ""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The stores, the exchanges, the clocks and `rand` (in [0, 1)).

    `check_lease` raises UnavailableError unless the Lease lasts for that many seconds. `holder` names this process.
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
