"""OAuth client authentication: with a secret, an assertion that the client signs, or a token from another issuer."""

import base64
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus

import jwt
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.exchanges.oauth_client import ClientAssertionSource, ClientAssertionSpec
from keyturn.api.source import SecretValue
from keyturn.api.times import rfc3339
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import PipelineValues, unwrap
from keyturn.core.token_times import jwt_times
from keyturn.exchanges.client_keys import (
    ClientKey,
    UnusableKeyError,
    certificate_chain,
    load_certificates,
    load_client_key,
    signing_algorithm,
)
from keyturn.exchanges.context import Call

# RFC 7523 section 2.2.
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFETIME = timedelta(seconds=60)
# The shortest lifetime that Kubernetes allows, because the token is used only once.
_SERVICE_ACCOUNT_SECONDS = 600
# The dots in a signed and in an encrypted JWT (RFC 7515 section 7.1, RFC 7516 section 7.1).
_JWT_DOTS = (2, 4)
Fields = list[tuple[str, str]]


async def authenticate_client(
    call: Call, spec: OauthTokenSpec, values: PipelineValues
) -> tuple[dict[str, str], Fields]:
    """Return the headers and the fields with which the client authenticates.

    RFC 6749 section 2.3.1 for basic and post, RFC 7521 section 4.2 for assertions.
    """
    method, client_id = spec.authentication, spec.client_id or ""
    if method == "client_secret_basic":
        pair = f"{quote_plus(client_id)}:{quote_plus(await _secret(call, spec.client_secret_from))}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}, []
    fields: Fields = [("client_id", client_id)] if client_id else []
    if method == "client_secret_post":
        fields.append(("client_secret", await _secret(call, spec.client_secret_from)))
    if method == "private_key_jwt":
        source = spec.client_assertion_from
        assertion = await _external_assertion(call, source, values) if source else await _signed_assertion(call, spec)
        fields += [("client_assertion_type", _ASSERTION_TYPE), ("client_assertion", assertion)]
    return {}, fields


async def _secret(call: Call, value: SecretValue | None) -> str:
    if value is None:
        raise RefusedError(
            "InvalidSpec", "clientAuthentication requires a secret or key that the spec does not reference"
        )
    return await call.secret(value.secret_key_ref)


async def _external_assertion(call: Call, source: ClientAssertionSource, values: PipelineValues) -> str:
    """Return a JWT that another issuer has signed; raises RefusedError if it is not a JWT or has expired."""
    if account := source.service_account:
        seconds = account.expiration_seconds or _SERVICE_ACCOUNT_SECONDS
        return await call.service_account_token(account.name, account.audiences, seconds)
    if ref := source.secret_key_ref:
        what = f"clientAssertionFrom ({ref.description})"
        token = unwrap(await call.secret(ref), what)
        expires_at = jwt_times(token).expires_at
        if expires_at and expires_at <= call.context.issuer_client.now():
            raise RefusedError("SourceExpired", f"{what} expired at {rfc3339(expires_at)}; store a new JWT there")
    else:
        what = f"clientAssertionFrom (the {source.pipeline} of an earlier exchange)"
        # Never the source token, which may be a refresh token.
        choice = values.input_token("idToken") if source.pipeline == "idToken" else values.access_token
        token = choice.value if choice else ""
    if token.count(".") not in _JWT_DOTS:
        raise RefusedError("InvalidSpec", f"{what} is not a JWT, so it cannot be a client assertion")
    return token


async def _signed_assertion(call: Call, spec: OauthTokenSpec) -> str:
    """Sign an assertion (RFC 7523 section 3) that is valid once, for one minute."""
    where = _where("clientKeyFrom", spec.client_key_from)
    content, now = spec.client_assertion or ClientAssertionSpec(), call.context.issuer_client.now()
    try:
        key = load_client_key(await _secret(call, spec.client_key_from), spec.key_id)
        algorithm = signing_algorithm(key, spec.algorithm)
    except UnusableKeyError as error:
        raise RefusedError("InvalidSpec", f"{where} contains {error}") from None
    headers: dict[str, Any] = dict(content.headers or {})
    if key_id := spec.key_id or key.key_id:
        headers["kid"] = key_id
    headers |= await _certificate_headers(call, spec, key, where)
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


async def _certificate_headers(call: Call, spec: OauthTokenSpec, key: ClientKey, where: str) -> dict[str, Any]:
    """Derive header fields from the certificate of the key (RFC 7515 sections 4.1.6 to 4.1.8)."""
    names = (spec.client_assertion and spec.client_assertion.certificate_headers) or ()
    if not names:
        return {}
    certificates = key.certificates
    if spec.client_certificate_from:
        where = _where("clientCertificateFrom", spec.client_certificate_from)
        try:
            certificates = load_certificates(await _secret(call, spec.client_certificate_from))
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
