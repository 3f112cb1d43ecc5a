"""The assertion that an OAuth client signs with its key. The libraries take 10 MiB: import this only if it is used."""

import base64
import secrets
from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.exchanges.oauth_client import ClientAssertionSpec
from keyturn.api.source import SecretValue
from keyturn.core.errors import RefusedError
from keyturn.exchanges.client_keys import (
    ClientKey,
    UnusableKeyError,
    certificate_chain,
    load_certificates,
    load_client_key,
    signing_algorithm,
)

_ASSERTION_LIFETIME = timedelta(seconds=60)


def signed_assertion(spec: OauthTokenSpec, key_text: str, certificate_text: str | None, now: datetime) -> str:
    """Sign an assertion (RFC 7523 section 3). It is valid once, for one minute.

    `key_text` and `certificate_text` are the values of clientKeyFrom and clientCertificateFrom. Raises RefusedError.
    """
    where = _where("clientKeyFrom", spec.client_key_from)
    content = spec.client_assertion or ClientAssertionSpec()
    try:
        key = load_client_key(key_text, spec.key_id)
        algorithm = signing_algorithm(key, spec.algorithm)
    except UnusableKeyError as error:
        raise RefusedError("InvalidSpec", f"{where} contains {error}") from None
    headers: dict[str, Any] = dict(content.headers or {})
    if key_id := spec.key_id or key.key_id:
        headers["kid"] = key_id
    headers |= _certificate_headers(spec, key, certificate_text, where)
    claims: dict[str, Any] = {
        **(content.claims or {}),
        **(content.integer_claims or {}),
        **dict.fromkeys(content.time_claims or (), now),
        "iss": spec.client_id,
        "sub": spec.client_id,
        "aud": content.audience or spec.token_url,
        "jti": secrets.token_urlsafe(16),
        "iat": now,
        "exp": now + _ASSERTION_LIFETIME,
    }
    try:
        return jwt.encode(claims, key.key, algorithm, headers)  # type: ignore[arg-type]
    except (jwt.PyJWTError, UnsupportedAlgorithm, InternalError, ValueError, TypeError):
        # Not "from error": the original message may contain a line of the key.
        raise RefusedError("InvalidSpec", f"{where} contains a key that cannot sign with {algorithm}") from None


def _certificate_headers(
    spec: OauthTokenSpec, key: ClientKey, certificate_text: str | None, where: str
) -> dict[str, Any]:
    """Derive header fields from the certificate of the key (RFC 7515 sections 4.1.6 to 4.1.8)."""
    names = (spec.client_assertion and spec.client_assertion.certificate_headers) or ()
    if not names:
        return {}
    certificates = key.certificates
    if certificate_text is not None:
        where = _where("clientCertificateFrom", spec.client_certificate_from)
        try:
            certificates = load_certificates(certificate_text)
        except UnusableKeyError as error:
            raise RefusedError("InvalidSpec", f"{where} contains {error}") from None
    chain = certificate_chain(key, certificates)
    if not chain:
        raise RefusedError(
            "InvalidSpec",
            f"{where} contains no certificate for the private key, which certificateHeaders requires",
        )
    headers = {
        # RFC 7515 section 4.1.7. SHA-1 only identifies the certificate; the signature protects the assertion.
        "x5t": _base64url(chain[0].fingerprint(SHA1())),  # noqa: S303  # nosec B303
        "x5t#S256": _base64url(chain[0].fingerprint(SHA256())),
        "x5c": [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode() for certificate in chain],
    }
    return {name: headers[name] for name in names}


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _where(field: str, value: SecretValue | None) -> str:
    return f"{field} ({value.secret_key_ref.description})" if value else field
