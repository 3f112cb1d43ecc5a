"""Who asks a token endpoint: the client and its proof; and whose certificates it believes."""

import base64
import secrets
import ssl
from datetime import datetime, timedelta
from urllib.parse import quote_plus

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from keyturn.core.errors import RefusedError
from keyturn.core.model.exchanges import OauthToken
from keyturn.core.model.source import SecretValue
from keyturn.exchange.systems import Call

_ASSERTED = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LIFE = timedelta(seconds=60)
Fields = list[tuple[str, str]]


async def authenticate(call: Call, wanted: OauthToken, fields: Fields, now: datetime) -> dict[str, str]:
    """Add the client's authentication to the fields, or return it as headers.

    RFC 6749 section 2.3.1 for basic and post, RFC 7523 section 2.2 for private_key_jwt.
    """
    how, client_id = wanted.authentication, wanted.client_id or ""
    if how == "basic":
        pair = f"{quote_plus(client_id)}:{quote_plus(await _secret(call, wanted.client_secret_from))}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    if client_id:
        fields.append(("client_id", client_id))
    if how == "post":
        fields.append(("client_secret", await _secret(call, wanted.client_secret_from)))
    if how == "private_key_jwt":
        key = await _secret(call, wanted.client_key_from)
        fields += [("client_assertion_type", _ASSERTED), ("client_assertion", _assertion(wanted, key, now))]
    return {}


async def trusted(call: Call, wanted: OauthToken) -> ssl.SSLContext | None:
    """Read the certificates that are trusted instead of the usual ones; None where none are named."""
    ref = wanted.ca_bundle_from.ref if wanted.ca_bundle_from else None
    if ref is None:
        return None
    bundle = await call.secret(ref)
    try:
        # Python takes an empty bundle for none, and would trust the usual certificates.
        return ssl.create_default_context(cadata=bundle or "none")
    except (ssl.SSLError, ValueError):
        raise RefusedError("SpecInvalid", "caBundleFrom holds no certificates in PEM") from None


async def _secret(call: Call, value: SecretValue | None) -> str:
    if value is None:
        raise RefusedError("SpecInvalid", "the client's authentication needs what the spec does not name")
    return await call.secret(value.secret_key_ref)


def _assertion(wanted: OauthToken, key: str, now: datetime) -> str:
    """Sign who the client is (RFC 7523 section 3): for this endpoint, once, for a minute."""
    algorithm = wanted.algorithm or "RS256"
    claims = {
        "iss": wanted.client_id,
        "sub": wanted.client_id,
        "aud": wanted.token_url,
        "jti": secrets.token_urlsafe(16),
        "iat": now,
        "exp": now + _LIFE,
    }
    try:
        return jwt.encode(claims, key, algorithm, headers={"kid": wanted.key_id} if wanted.key_id else None)
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, AttributeError):
        # Not "from error": it may show a line of the key. A public key has no attribute `sign`.
        raise RefusedError("SpecInvalid", f"clientKeyFrom holds no PEM key that signs {algorithm}") from None
