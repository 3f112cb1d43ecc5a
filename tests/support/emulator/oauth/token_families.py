"""Refresh tokens, each good for once: who presents a spent one ends the whole family (RFC 9700 section 4.14.2)."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.support.emulator.oauth.refusal import OAuthError


@dataclass(slots=True)
class History:
    """What became of a family: `consumed` are the generations used, in order; `reuses` counts spent ones shown."""

    generation: int = 0
    consumed: list[int] = field(default_factory=list)
    reuses: int = 0
    revoked: bool = False


@dataclass(slots=True)
class Family:
    """The refresh tokens that come of one first token; `newest` is the one that is not spent."""

    client_id: str
    subject: str
    scopes: frozenset[str]
    expires_at: datetime | None
    newest: str = field(default="", repr=False)
    newest_since: datetime | None = None
    history: History = field(default_factory=History)


class Families:
    """Every refresh token that was ever issued, with its family and generation."""

    def __init__(self) -> None:
        self._tokens: dict[str, tuple[Family, int]] = {}

    def start(
        self, client_id: str, subject: str, scopes: frozenset[str], expires_at: datetime | None = None
    ) -> Family:
        """Issue the first token of a family."""
        family = Family(client_id, subject, scopes, expires_at)
        self._issue(family)
        return family

    def find(self, token: str) -> tuple[Family, int]:
        """Find the family and the generation of a token; one that was never issued raises ValueError."""
        if token not in self._tokens:
            raise ValueError("this refresh token was never issued")
        return self._tokens[token]

    def check(self, token: str, client_id: str, now: datetime, grace: timedelta) -> Family:
        """Find the family of a token that may be used now, by this client; others raise OAuthError.

        The last spent one may be used within the grace, as long as its answer could have been lost.
        """
        family, generation = self._of_client(token, client_id)
        history = family.history
        if generation < history.generation:
            history.reuses += 1
            late = family.newest_since is None or now - family.newest_since >= grace
            history.revoked |= late or generation < history.generation - 1
        if history.revoked or (family.expires_at and family.expires_at <= now):
            raise _invalid()
        return family

    def _of_client(self, token: str, client_id: str) -> tuple[Family, int]:
        known = self._tokens.get(token)
        if known is None or known[0].client_id != client_id:
            raise _invalid()
        return known

    def consume(self, token: str, now: datetime, *, rotates: bool) -> bool:
        """Use a token that was checked, and rotate it; False for one within its grace, which is spent already."""
        family, generation = self._tokens[token]
        if generation < family.history.generation:
            return False
        family.history.consumed.append(generation)
        if rotates:
            family.history.generation += 1
            family.newest_since = now
            self._issue(family)
        return True

    def _issue(self, family: Family) -> None:
        family.newest = secrets.token_urlsafe(32)
        self._tokens[family.newest] = family, family.history.generation


def _invalid() -> OAuthError:
    # Issuers do not say which it was.
    return OAuthError("invalid_grant", "grant request is invalid")
