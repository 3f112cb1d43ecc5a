"""JWTs that are shown to this issuer: who signed them, for whom, until when, and whether it was before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import jwt

from tests.support.emulator.oauth.refusal import OAuthError
from tests.support.emulator.tokens import PublicKeys, SigningKey

_UNCHECKED = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
# An assertion of a client that lives longer than this is not short-lived.
CLIENT_ASSERTION_SECONDS = 300


@dataclass(slots=True)
class Shown:
    """Every `jti` that was shown; none is taken twice (RFC 7523 section 3, number 7)."""

    seen: set[tuple[str, str]] = field(default_factory=set)

    def again(self, claims: Mapping[str, Any]) -> bool:
        """Whether the claims were shown before; from now on they were."""
        shown = (str(claims.get("iss")), str(claims.get("jti")))
        again = shown in self.seen or "jti" not in claims
        self.seen.add(shown)
        return again


def of_client(assertion: str, public_key: str, audiences: set[str], now: datetime, shown: Shown) -> str:
    """Read a client's assertion (RFC 7523 section 3), and tell its subject."""
    try:
        claims = jwt.decode(assertion, public_key, _ALGORITHMS, options=_UNCHECKED)  # type: ignore[arg-type]
    except (jwt.PyJWTError, ValueError):
        raise OAuthError("invalid_client", "the assertion is not one of this client", 401) from None
    lasts = claims.get("exp", 0) - now.timestamp()
    bad = (
        claims.get("iss") != claims.get("sub")
        or claims.get("aud") not in audiences
        or not 0 < lasts <= CLIENT_ASSERTION_SECONDS
    )
    if bad or shown.again(claims):
        raise OAuthError("invalid_client", "the assertion is not for here and now, or was shown before", 401)
    return str(claims["sub"])


def signed_by(keys: Mapping[str, SigningKey | PublicKeys], token: str, now: datetime) -> dict[str, Any]:
    """Read a JWT of a trusted issuer that has not expired; others raise invalid_grant."""
    try:
        issuer = str(jwt.decode(token, options={"verify_signature": False}).get("iss"))
        claims = keys[issuer].claims(token)
    except (jwt.PyJWTError, KeyError):
        raise OAuthError("invalid_grant", "grant request is invalid") from None
    if claims.get("exp", 0) <= now.timestamp():
        raise OAuthError("invalid_grant", "grant request is invalid")
    return claims
