"""An issuer that detects refresh token reuse, and a token store, both in memory."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import jwt

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.token_family import StoredToken, is_superseded
from keyturn.reconcile.dependencies import token_place

Checkpoint = Callable[[str], Awaitable[None]]


async def no_checkpoint(_: str) -> None:
    """Yield to the event loop, as a real call does."""
    await asyncio.sleep(0)


@dataclass(slots=True)
class RotatingIssuer:
    """Exchanges a refresh token for an access token and the next refresh token.

    `live` is the valid token, `consumed` lists the earlier ones, and `reuses` counts how often one of those was sent
    again; the first reuse revokes the family. The next `lost` requests are processed, but their responses are lost; the
    next `unavailable` requests are not received. If `refreshes` is False, the issuer accepts a single-use token and
    returns no refresh token. With `refresh_life`, refresh tokens are JWTs with that lifetime.
    """

    live: str = "seed"
    consumed: list[str] = field(default_factory=list)
    reuses: int = 0
    lost: int = 0
    unavailable: int = 0
    rotates: bool = True
    refreshes: bool = True
    life: timedelta = timedelta(hours=1)
    refresh_life: timedelta | None = None
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def sign_in(self) -> str:
        """Start a new family, as a user does, and return its first token."""
        self.live, self.consumed = f"seed-{next(self._numbers)}", []
        return self.live

    def refresh(self, token: str, now: datetime) -> PipelineValues:
        """Process a request. Raises the errors that the adapter of a real issuer raises."""
        if self.unavailable:
            self.unavailable -= 1
            raise UnavailableError("Unreachable", "the issuer could not be reached")
        if token in self.consumed:
            self.reuses, self.live = self.reuses + 1, ""
        if token != self.live:
            raise RefusedError("SourceInvalid", "invalid_grant")
        number = next(self._numbers)
        if self.rotates:
            self.consumed.append(token)
            self.live = self._refresh_token(number, now) if self.refreshes else ""
        if self.lost:
            self.lost -= 1
            raise UnavailableError("Unreachable", "the connection was closed", outcome_unknown=True)
        access_token = Token(f"access-{number}", now + self.life)
        return PipelineValues(access_token=access_token, refresh_token=self.live or None if self.rotates else None)

    def _refresh_token(self, number: int, now: datetime) -> str:
        if self.refresh_life is None:
            return f"refresh-{number}"
        return jwt.encode({"jti": str(number), "iat": now, "exp": now + self.refresh_life}, "k" * 32, "HS256")


class MemoryTokenStore:
    """The TokenStore in memory. `calls` and `failures` have the call's name: read, create, dry_run, keep or save."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], StoredToken] = {}
        self.calls: Counter[str] = Counter()
        self.failures: dict[str, list[KeyturnError]] = {}
        self.checkpoint: Checkpoint = no_checkpoint
        self._numbers = itertools.count(1)

    async def read(self, request: Request) -> StoredToken | None:
        """Read a token Secret."""
        await self._called("read")
        return self.stored.get(token_place(request))

    async def create(self, request: Request, token: StoredToken) -> StoredToken:
        """Create a token Secret."""
        await self._called("create")
        if token_place(request) in self.stored:
            raise UnavailableError("Unavailable", "the token Secret already exists")
        stored = self._store(request, replace(token, uid=f"token-{next(self._numbers)}"))
        await self.checkpoint("after create")
        return stored

    async def keep(self, request: Request, token: StoredToken, *, dry_run: bool = False) -> StoredToken:
        """Write a stored token, or only check that it could be written."""
        name = "dry_run" if dry_run else "keep"
        await self._called(name)
        current = self.stored.get(token_place(request))
        if current is None or (current.uid, current.version) != (token.uid, token.version):
            raise UnavailableError("Unavailable", "the token Secret changed meanwhile")
        stored = token if dry_run else self._store(request, token)
        await self.checkpoint(f"after {name}")
        return stored

    async def save(self, request: Request, token: StoredToken) -> StoredToken:
        """Write a token that was received."""
        await self._called("save")
        current = self.stored.get(token_place(request))
        if current and current.family and token.family and is_superseded(token.family, current.family):
            return current
        stored = self._store(request, replace(token, uid=current.uid if current else "token-0"))
        await self.checkpoint("after save")
        return stored

    def _store(self, request: Request, token: StoredToken) -> StoredToken:
        self.stored[token_place(request)] = replace(token, version=str(next(self._numbers)))
        return self.stored[token_place(request)]

    async def _called(self, name: str) -> None:
        await self.checkpoint(f"before {name}")
        self.calls[name] += 1
        if self.failures.get(name):
            raise self.failures[name].pop(0)
