"""JWTs and the keys that sign them."""

import secrets
from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

ALGORITHM = "RS256"
# Time is the emulator's, not PyJWT's: it looks at the real clock.
_UNCHECKED = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}


class SigningKey:
    """An RSA key that signs JWTs, and the public half that others check them with."""

    def __init__(self) -> None:
        self.kid = secrets.token_hex(8)
        self._private = rsa.generate_private_key(65537, 2048)

    def sign(self, claims: dict[str, Any]) -> str:
        """Make a JWT of `claims` and a fresh `jti`."""
        fresh = {**claims, "jti": secrets.token_hex(16)}
        return jwt.encode(fresh, self._private, ALGORITHM, headers={"kid": self.kid})

    def claims(self, token: str) -> dict[str, Any]:
        """Read a JWT that this key signed, whenever that was; others raise jwt.InvalidTokenError."""
        return jwt.decode(token, self._private.public_key(), [ALGORITHM], options=_UNCHECKED)  # type: ignore[arg-type]

    def jwk(self) -> dict[str, Any]:
        """Give the public half as RFC 7517 section 4 has it."""
        public = RSAAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "use": "sig", "alg": ALGORITHM}


class PublicKeys:
    """The keys of another issuer, from its JWKS (RFC 7517 section 5): with them JWTs are checked, not made."""

    def __init__(self, jwks: dict[str, Any]) -> None:
        self._keys = jwt.PyJWKSet.from_dict(jwks)

    def claims(self, token: str) -> dict[str, Any]:
        """Read a JWT that one of these keys signed, whenever that was; others raise jwt.InvalidTokenError."""
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
        except KeyError:
            raise jwt.InvalidSignatureError("no such key") from None
        return jwt.decode(token, key, [ALGORITHM], options=_UNCHECKED)  # type: ignore[arg-type]


def in_seconds(now: datetime, seconds: float) -> datetime:
    """Give the moment that many seconds from now, in whole seconds as AWS writes them."""
    return now.replace(microsecond=0) + timedelta(seconds=seconds)
