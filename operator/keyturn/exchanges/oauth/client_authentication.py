"""Client authentication at a token endpoint, and the certificates that are trusted for it."""

import base64
import secrets
import ssl
from datetime import datetime, timedelta
from urllib.parse import quote_plus

import jwt
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.source import SecretValue
from keyturn.core.errors import RefusedError
from keyturn.exchanges.context import Call

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFETIME = timedelta(seconds=60)
_MAX_PEM_LENGTH, _MAX_KEY_BITS = 8192, 4096
Fields = list[tuple[str, str]]


async def authenticate(call: Call, spec: OauthTokenSpec, fields: Fields, now: datetime) -> dict[str, str]:
    """Add the client's authentication to the fields, or return it as headers.

    RFC 6749 section 2.3.1 for basic and post, RFC 7523 section 2.2 for private_key_jwt.
    """
    method, client_id = spec.authentication, spec.client_id or ""
    if method == "client_secret_basic":
        pair = f"{quote_plus(client_id)}:{quote_plus(await _secret(call, spec.client_secret_from))}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    if client_id:
        fields.append(("client_id", client_id))
    if method == "client_secret_post":
        fields.append(("client_secret", await _secret(call, spec.client_secret_from)))
    if method == "private_key_jwt":
        key = await _secret(call, spec.client_key_from)
        fields += [("client_assertion_type", _ASSERTION_TYPE), ("client_assertion", _assertion(spec, key, now))]
    return {}


async def trusted(call: Call, spec: OauthTokenSpec) -> ssl.SSLContext | None:
    """Read the certificates that replace the default ones; None if the spec names none."""
    ref = spec.ca_bundle_from.ref if spec.ca_bundle_from else None
    if ref is None:
        return None
    bundle = await call.secret(ref)
    try:
        # Python treats an empty bundle as none, and would trust the default certificates.
        context = ssl.create_default_context(cadata=bundle or "none")
    except (ssl.SSLError, ValueError):
        raise RefusedError("InvalidSpec", "caBundleFrom contains no certificates in PEM") from None
    # Python 3.13 requires extensions that the certificates of many private CAs lack.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


async def _secret(call: Call, value: SecretValue | None) -> str:
    if value is None:
        raise RefusedError(
            "InvalidSpec", "clientAuthentication requires a secret or key that the spec does not reference"
        )
    return await call.secret(value.secret_key_ref)


def _assertion(spec: OauthTokenSpec, key: str, now: datetime) -> str:
    """Sign a client assertion (RFC 7523 section 3) for this endpoint, valid once and for a minute."""
    algorithm, headers = spec.algorithm or "RS256", {"kid": spec.key_id} if spec.key_id else None
    claims = {
        "iss": spec.client_id,
        "sub": spec.client_id,
        "aud": spec.token_url,
        "jti": secrets.token_urlsafe(16),
        "iat": now,
        "exp": now + _ASSERTION_LIFETIME,
    }
    try:
        return jwt.encode(claims, _load_key(key), algorithm, headers)  # type: ignore[arg-type]
    except (jwt.PyJWTError, UnsupportedAlgorithm, InternalError, ValueError, TypeError, AttributeError):
        # Not "from error": it may show a line of the key. AttributeError: a public key has no `sign`.
        raise RefusedError(
            "InvalidSpec", f"clientKeyFrom contains no PEM private key for {algorithm} (RSA: at most 4096 bits)"
        ) from None


def _load_key(pem: str) -> PrivateKeyTypes:
    """Load a private key; raises ValueError if it is too large.

    PyJWT would check the primes of an RSA key, which takes 5 s for 8192 bits and minutes for a crafted key: the event
    loop would be blocked and the Lease lost. Without the check, the issuer refuses signatures of an invalid key.
    """
    if len(pem) > _MAX_PEM_LENGTH:
        raise ValueError
    key = load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    if isinstance(key, RSAPrivateKey):
        private = key.private_numbers()
        numbers = (private.p, private.q, private.d, private.dmp1, private.dmq1, private.iqmp)
        if max(key.key_size, *(number.bit_length() for number in numbers)) > _MAX_KEY_BITS:
            raise ValueError
    return key
