"""Who asks a token endpoint: the client and its proof; and whose certificates it believes."""

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

_ASSERTED = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LIFE = timedelta(seconds=60)
_LONGEST_PEM, _MOST_BITS = 8192, 4096
Fields = list[tuple[str, str]]


async def authenticate(call: Call, wanted: OauthTokenSpec, fields: Fields, now: datetime) -> dict[str, str]:
    """Add the client's authentication to the fields, or return it as headers.

    RFC 6749 section 2.3.1 for basic and post, RFC 7523 section 2.2 for private_key_jwt.
    """
    how, client_id = wanted.authentication, wanted.client_id or ""
    if how == "client_secret_basic":
        pair = f"{quote_plus(client_id)}:{quote_plus(await _secret(call, wanted.client_secret_from))}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    if client_id:
        fields.append(("client_id", client_id))
    if how == "client_secret_post":
        fields.append(("client_secret", await _secret(call, wanted.client_secret_from)))
    if how == "private_key_jwt":
        key = await _secret(call, wanted.client_key_from)
        fields += [("client_assertion_type", _ASSERTED), ("client_assertion", _assertion(wanted, key, now))]
    return {}


async def trusted(call: Call, wanted: OauthTokenSpec) -> ssl.SSLContext | None:
    """Read the certificates that are trusted instead of the usual ones; None where none are named."""
    ref = wanted.ca_bundle_from.ref if wanted.ca_bundle_from else None
    if ref is None:
        return None
    bundle = await call.secret(ref)
    try:
        # Python takes an empty bundle for none, and would trust the usual certificates.
        context = ssl.create_default_context(cadata=bundle or "none")
    except (ssl.SSLError, ValueError):
        raise RefusedError("InvalidSpec", "caBundleFrom holds no certificates in PEM") from None
    # Python 3.13 wants extensions in certificates that many an authority of a company does without.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


async def _secret(call: Call, value: SecretValue | None) -> str:
    if value is None:
        raise RefusedError("InvalidSpec", "the client's authentication needs what the spec does not name")
    return await call.secret(value.secret_key_ref)


def _assertion(wanted: OauthTokenSpec, key: str, now: datetime) -> str:
    """Sign who the client is (RFC 7523 section 3): for this endpoint, once, for a minute."""
    algorithm, headers = wanted.algorithm or "RS256", {"kid": wanted.key_id} if wanted.key_id else None
    claims = {
        "iss": wanted.client_id,
        "sub": wanted.client_id,
        "aud": wanted.token_url,
        "jti": secrets.token_urlsafe(16),
        "iat": now,
        "exp": now + _LIFE,
    }
    try:
        return jwt.encode(claims, _readable(key), algorithm, headers)  # type: ignore[arg-type]
    except (jwt.PyJWTError, UnsupportedAlgorithm, InternalError, ValueError, TypeError, AttributeError):
        # Not "from error": it may show a line of the key. A public key has no attribute `sign`.
        raise RefusedError(
            "InvalidSpec", f"clientKeyFrom holds no PEM key that signs {algorithm}, RSA of at most 4096 bits"
        ) from None


def _readable(pem: str) -> PrivateKeyTypes:
    """Read a key of a user; raises ValueError for one that would take long.

    PyJWT would have the primes of an RSA key proved, which takes 5 s for one of 8192 bits and minutes for what
    somebody made up; meanwhile nothing else runs here, and the Lease is lost. Who uses a wrong key is refused.
    """
    if len(pem) > _LONGEST_PEM:
        raise ValueError
    key = load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    if isinstance(key, RSAPrivateKey):
        private = key.private_numbers()
        numbers = (private.p, private.q, private.d, private.dmp1, private.dmq1, private.iqmp)
        if max(key.key_size, *(number.bit_length() for number in numbers)) > _MOST_BITS:
            raise ValueError
    return key
