"""JWTs and the keys that sign them."""

import secrets
from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

_ALGORITHM = "RS256"
# PyJWT would use the real clock; the emulator has its own.
UNCHECKED: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}


class SigningKey:
    def __init__(self) -> None:
        self.kid = secrets.token_hex(8)
        self._private = rsa.generate_private_key(65537, 2048)

    def sign(self, claims: dict[str, Any]) -> str:
        """Return a JWT of `claims` with a new `jti`."""
        jti = secrets.token_hex(16)
        return jwt.encode({**claims, "jti": jti}, self._private, _ALGORITHM, headers={"kid": self.kid})

    def claims(self, token: str) -> dict[str, Any]:
        """Verify the signature of a JWT, not its expiry; raises jwt.InvalidTokenError."""
        return jwt.decode(token, self._private.public_key(), [_ALGORITHM], options=UNCHECKED)

    def jwk(self) -> dict[str, Any]:
        """Return the public key (RFC 7517 section 4)."""
        public = RSAAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "use": "sig", "alg": _ALGORITHM}


class PublicKeys:
    """The JWKS of another issuer (RFC 7517 section 5)."""

    def __init__(self, jwks: dict[str, Any]) -> None:
        self._keys = jwt.PyJWKSet.from_dict(jwks)

    def claims(self, token: str) -> dict[str, Any]:
        """Verify the signature of a JWT, not its expiry; raises jwt.InvalidTokenError."""
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
        except KeyError:
            raise jwt.InvalidSignatureError("the JWKS contains no such key") from None
        return jwt.decode(token, key, [_ALGORITHM], options=UNCHECKED)


def in_seconds(now: datetime, seconds: float) -> datetime:
    """Return the time in so many seconds, truncated to whole seconds as AWS writes it."""
    return now.replace(microsecond=0) + timedelta(seconds=seconds)


def validity(issued_at: datetime, expires_at: datetime) -> dict[str, int]:
    """Return the claims `iat` and `exp`. A token that has expired was issued before that."""
    issued_at = min(issued_at, expires_at - timedelta(seconds=1))
    return {"iat": int(issued_at.timestamp()), "exp": int(expires_at.timestamp())}
