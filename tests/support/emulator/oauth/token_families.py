"""Rotating refresh tokens: the reuse of a consumed one revokes its family (RFC 9700 section 4.14.2)."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime

from tests.support.emulator.oauth import invalid_grant


@dataclass(slots=True)
class History:
    """The current generation of a family, the generations that were consumed, and how often one was reused."""

    generation: int = 0
    consumed: list[int] = field(default_factory=list)
    reuses: int = 0
    revoked: bool = False


@dataclass(slots=True)
class TokenFamily:
    """The refresh tokens that descend from one first token; only `newest` is valid."""

    client_id: str
    subject: str
    scopes: frozenset[str]
    expires_at: datetime | None
    newest: str = field(default="", repr=False)
    history: History = field(default_factory=History)


class TokenFamilies:
    """Every refresh token that was issued, with its family and generation."""

    def __init__(self) -> None:
        self._tokens: dict[str, tuple[TokenFamily, int]] = {}

    def start(
        self, client_id: str, subject: str, scopes: frozenset[str], expires_at: datetime | None = None
    ) -> TokenFamily:
        family = TokenFamily(client_id, subject, scopes, expires_at)
        self._issue(family)
        return family

    def find(self, token: str) -> tuple[TokenFamily, int]:
        """Return the family and the generation of a token; raises ValueError if it was never issued."""
        if token not in self._tokens:
            raise ValueError("this refresh token was never issued")
        return self._tokens[token]

    def check(self, token: str, client_id: str, now: datetime) -> TokenFamily:
        """Return the family of a valid token of this client; raises OAuthError otherwise."""
        family, generation = self._tokens.get(token, (None, 0))
        if family is None or family.client_id != client_id:
            raise invalid_grant()
        if generation < family.history.generation:
            family.history.reuses += 1
            family.history.revoked = True
        if family.history.revoked or (family.expires_at and family.expires_at <= now):
            raise invalid_grant()
        return family

    def consume(self, token: str, *, rotate: bool) -> None:
        """Record the use of a checked token, and issue the next one if the client rotates."""
        family, generation = self._tokens[token]
        family.history.consumed.append(generation)
        if rotate:
            family.history.generation += 1
            self._issue(family)

    def _issue(self, family: TokenFamily) -> None:
        family.newest = secrets.token_urlsafe(32)
        self._tokens[family.newest] = family, family.history.generation
