"""A strict issuer and a token Secret, in memory: a spent refresh token that comes again ends its family."""

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


async def nothing(_: str) -> None:
    """Let everything else run for a moment, as a real call does."""
    await asyncio.sleep(0)


@dataclass(slots=True)
class RotatingIssuer:
    """Answers a refresh token with an access token and the next refresh token.

    `live` is the one that is good, `spent` those that were, `reuses` counts spent ones that came again: with the
    first the family is gone. `lost` answers are processed, but never arrive. One that does not refresh takes a
    token once, and answers none. With `refresh_life` the refresh tokens that it answers are JWTs, which end.
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
        """Start a new family, as a user does; returns its first token."""
        self.live, self.consumed = f"seed-{next(self._numbers)}", []
        return self.live

    def answer(self, token: str, now: datetime) -> PipelineValues:
        """Process a refresh, or raise what its adapter would."""
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
            raise UnavailableError("Unreachable", "no whole answer", outcome_unknown=True)
        given = Token(f"access-{number}", now + self.life)
        return PipelineValues(access_token=given, refresh_token=self.live or None if self.rotates else None)

    def _refresh_token(self, number: int, now: datetime) -> str:
        if self.refresh_life is None:
            return f"refresh-{number}"
        return jwt.encode({"jti": str(number), "iat": now, "exp": now + self.refresh_life}, "k" * 32, "HS256")


class KeptTokens:
    """The TokenStore in memory. `failures` are raised by the name of the call; a save is called `save`."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], StoredToken] = {}
        self.calls: Counter[str] = Counter()
        self.failures: dict[str, list[KeyturnError]] = {}
        self.checkpoint: Checkpoint = nothing
        self._numbers = itertools.count(1)

    async def read(self, request: Request) -> StoredToken | None:
        """Read a token Secret."""
        await self._called("read")
        return self.kept.get(token_place(request))

    async def create(self, request: Request, kept: StoredToken) -> StoredToken:
        """Make a token Secret."""
        await self._called("create")
        if token_place(request) in self.kept:
            raise UnavailableError("Unavailable", "there is one by now")
        stored = self._store(request, replace(kept, uid=f"token-{next(self._numbers)}"))
        await self.checkpoint("after create")
        return stored

    async def keep(self, request: Request, kept: StoredToken, *, dry_run: bool = False) -> StoredToken:
        """Write a kept token, or only try to."""
        name = "rehearse" if dry_run else "intend"
        await self._called(name)
        now = self.kept.get(token_place(request))
        if now is None or (now.uid, now.version) != (kept.uid, kept.version):
            raise UnavailableError("Unavailable", "changed meanwhile")
        stored = kept if dry_run else self._store(request, kept)
        await self.checkpoint(f"after {name}")
        return stored

    async def save(self, request: Request, kept: StoredToken) -> StoredToken:
        """Write a token that was answered."""
        await self._called("save")
        now = self.kept.get(token_place(request))
        if now and now.family and kept.family and is_superseded(kept.family, now.family):
            return now
        stored = self._store(request, replace(kept, uid=now.uid if now else "token-0"))
        await self.checkpoint("after save")
        return stored

    def _store(self, request: Request, kept: StoredToken) -> StoredToken:
        self.kept[token_place(request)] = replace(kept, version=str(next(self._numbers)))
        return self.kept[token_place(request)]

    async def _called(self, name: str) -> None:
        await self.checkpoint(f"before {name}")
        self.calls[name] += 1
        if self.failures.get(name):
            raise self.failures[name].pop(0)
