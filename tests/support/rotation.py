"""An issuer in memory that detects refresh token reuse."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import jwt

from keyturn.core.errors import KeyturnError, RefusedError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.token_times import refresh_token_expiry

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
    returns no refresh token. With `refresh_life`, refresh tokens are JWTs with that lifetime; `stated_life` is
    the one that the response states. If `states_life` is False, access tokens have no known expiry. `requests` counts
    the requests that were received; each is answered with the `refusal` if there is one.
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
    stated_life: timedelta | None = None
    states_life: bool = True
    requests: int = 0
    refusal: KeyturnError | None = None
    _number: int = 0

    def sign_in(self) -> str:
        """Start a new family, as a user does, and return its first token."""
        self._number += 1
        self.live, self.consumed = f"seed-{self._number}", []
        return self.live

    def refresh(self, token: str, now: datetime) -> PipelineValues:
        """Process a request. Raises the errors that the adapter of a real issuer raises."""
        if self.unavailable:
            self.unavailable -= 1
            raise UnavailableError("Unreachable", "the issuer could not be reached")
        self.requests += 1
        if self.refusal:
            raise self.refusal
        if token in self.consumed:
            self.reuses, self.live = self.reuses + 1, ""
        if token != self.live:
            raise RefusedError("SourceInvalid", "invalid_grant")
        self._number += 1
        if self.rotates:
            self.consumed.append(token)
            self.live = self._refresh_token(self._number, now) if self.refreshes else ""
        if self.lost:
            self.lost -= 1
            raise UnavailableError("Unreachable", "the connection was closed", outcome_unknown=True)
        access_token = Token(f"access-{self._number}", now + self.life if self.states_life else None)
        refresh_token = self.live or None if self.rotates else None
        expires_at = now + self.stated_life if self.stated_life else refresh_token_expiry(refresh_token, now, {})
        return PipelineValues(access_token=access_token, refresh_token=refresh_token, refresh_expires_at=expires_at)

    def _refresh_token(self, number: int, now: datetime) -> str:
        if self.refresh_life is None:
            return f"refresh-{number}"
        return jwt.encode({"jti": str(number), "iat": now, "exp": now + self.refresh_life}, "k" * 32, "HS256")


@dataclass(slots=True)
class ManyFamiliesIssuer(RotatingIssuer):
    """A RotatingIssuer for which a sign-in ends no other family. `valid` are the tokens that were not consumed."""

    valid: set[str] = field(default_factory=lambda: {"seed"})

    def sign_in(self) -> str:
        """Start another family, and return its first token."""
        consumed = self.consumed
        token = RotatingIssuer.sign_in(self)
        self.consumed = consumed
        self.valid.add(token)
        return token

    def refresh(self, token: str, now: datetime) -> PipelineValues:
        """Process a request."""
        if token in self.valid:
            self.live = token
        response = RotatingIssuer.refresh(self, token, now)
        self.valid = self.valid - {token} | {self.live}
        return response
