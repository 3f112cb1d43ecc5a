"""Verification of JWTs that the issuer receives: signature, expiry and replay."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import jwt

from tests.support.emulator.oauth import OAuthError, invalid_grant
from tests.support.emulator.tokens import UNCHECKED, PublicKeys, SigningKey

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
TrustedKeys = Mapping[str, SigningKey | PublicKeys]
# A client assertion must be short-lived.
_CLIENT_ASSERTION_SECONDS = 300


@dataclass(slots=True)
class ReplayCache:
    """Every `jti` that was received; each is accepted once (RFC 7523 section 3, number 7)."""

    seen: set[tuple[str, str]] = field(default_factory=set)

    def is_replay(self, claims: Mapping[str, Any]) -> bool:
        """Record the claims and return whether they were received before."""
        key = (str(claims.get("iss")), str(claims.get("jti")))
        replay = key in self.seen or "jti" not in claims
        self.seen.add(key)
        return replay


def verify_client_assertion(
    assertion: str, public_key: str, audiences: set[str], now: datetime, replay_cache: ReplayCache
) -> str:
    """Verify a client's assertion (RFC 7523 section 3) and return its subject."""
    try:
        claims = jwt.decode(assertion, public_key, _ALGORITHMS, options=UNCHECKED)
    except (jwt.PyJWTError, ValueError):
        raise OAuthError("invalid_client", "the client's key did not sign the assertion", 401) from None
    if (
        claims.get("iss") != claims.get("sub")
        or claims.get("aud") not in audiences
        or not 0 < claims.get("exp", 0) - now.timestamp() <= _CLIENT_ASSERTION_SECONDS
        or replay_cache.is_replay(claims)
    ):
        raise OAuthError("invalid_client", "the assertion has a wrong audience or lifetime, or is a replay", 401)
    return str(claims["sub"])


def verify_assertion(keys: TrustedKeys, token: str, now: datetime) -> dict[str, Any]:
    """Verify a JWT of a trusted issuer, by its URL in `keys`, and its expiry; raises invalid_grant."""
    try:
        issuer = str(jwt.decode(token, options={"verify_signature": False}).get("iss"))
        claims = keys[issuer].claims(token)
    except (jwt.PyJWTError, KeyError):
        raise invalid_grant() from None
    if claims.get("exp", 0) <= now.timestamp():
        raise invalid_grant()
    return claims
