"""OAuth 2.0: requests tokens from any issuer, with one of four grants and any of four client authentications."""

import base64
import secrets
import ssl
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import quote_plus

import jwt
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from keyturn.api.exchanges.base import (
    JWT_BEARER,
    REFRESH_TOKEN,
    TOKEN_EXCHANGE,
)
from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.source import SecretValue
from keyturn.core.errors import RefusedError, ThrottledError
from keyturn.core.pipeline_values import PipelineValues
from keyturn.exchanges.context import Call
from keyturn.exchanges.issuer_http import Form
from keyturn.exchanges.token_response import read_token_response
from keyturn.exchanges.transmission import Send, Transmission

# The parameter for the token, by grant: RFC 6749 section 6, RFC 8693 section 2.1, RFC 7523 section 2.1.
_TOKEN_PARAMETERS = {REFRESH_TOKEN: "refresh_token", TOKEN_EXCHANGE: "subject_token", JWT_BEARER: "assertion"}
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFETIME = timedelta(seconds=60)
_MAX_PEM_LENGTH, _MAX_KEY_BITS = 8192, 4096
# The bundle of all public authorities, as Mozilla and AWS publish it, has 220 KB.
_MAX_BUNDLE_LENGTH = 512 * 1024
Fields = list[tuple[str, str]]


async def prepare_token(call: Call, spec: OauthTokenSpec, values: PipelineValues) -> Send:
    """Build one request to a token endpoint, and return the call that sends it.

    A response to the refresh_token grant without a refresh_token leaves the old one valid. A single-use subject
    token is sent only until it has yielded a refresh token, which is sent from then on; a refresh token from other
    grants is dropped. The lifetime of an access token is assumed only if the issuer states none.
    """
    fields = await _form_fields(call, spec, values)
    headers, client_fields = await _client_authentication(call, spec)
    trusted = await _trusted_certificates(call, spec)
    issuer_client, consumes = call.context.issuer_client, call.consumes
    sends_token = bool(values.refresh_token) or "token" in spec.required_kinds
    request = issuer_client.prepare(Form(spec.token_url, fields + client_fields, headers, trusted, consumes))

    async def send(transmission: Transmission) -> PipelineValues:
        response = await issuer_client.post("oauthToken", request, transmission)
        try:
            results = read_token_response(values, response, spec.assumed, sends_token=sends_token, consumes=consumes)
        except ThrottledError:
            issuer_client.throttled()
            raise
        return results if consumes else replace(results, refresh_token=None)

    return send


async def _form_fields(call: Call, spec: OauthTokenSpec, values: PipelineValues) -> Fields:
    """The fields of the form without those of the client authentication. A refresh token replaces the spec's grant."""
    grant: dict[str, str | None] = {"grant_type": spec.grant_type}
    if values.refresh_token:
        grant = {"grant_type": REFRESH_TOKEN, "refresh_token": values.refresh_token}
    elif "token" in spec.required_kinds:
        token = values.single_use_credential or values.input_token(spec.from_).value
        grant[_TOKEN_PARAMETERS[spec.grant_type]] = token
    if grant["grant_type"] == TOKEN_EXCHANGE:
        actor = await call.secret(spec.actor_token_from.secret_key_ref) if spec.actor_token_from else None
        grant |= {
            "subject_token_type": spec.subject_token_type,
            "requested_token_type": spec.requested_token_type,
            "actor_token": actor,
            "actor_token_type": spec.actor_token_type,
        }
    parameters = grant | {"scope": " ".join(spec.scope or ())} | (spec.extra_parameters or {})
    fields: Fields = [(name, value) for name, value in parameters.items() if value]
    fields += [("audience", audience) for audience in spec.audience or ()]
    return fields + [("resource", resource) for resource in spec.resource or ()]


async def _client_authentication(call: Call, spec: OauthTokenSpec) -> tuple[dict[str, str], Fields]:
    """Return the headers and the fields with which the client authenticates.

    RFC 6749 section 2.3.1 for basic and post, RFC 7523 section 2.2 for private_key_jwt.
    """
    method, client_id = spec.authentication, spec.client_id or ""
    if method == "client_secret_basic":
        pair = f"{quote_plus(client_id)}:{quote_plus(await _secret(call, spec.client_secret_from))}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}, []
    fields: Fields = [("client_id", client_id)] if client_id else []
    if method == "client_secret_post":
        fields.append(("client_secret", await _secret(call, spec.client_secret_from)))
    if method == "private_key_jwt":
        key = await _secret(call, spec.client_key_from)
        assertion = _client_assertion(spec, key, call.context.issuer_client.now())
        fields += [("client_assertion_type", _ASSERTION_TYPE), ("client_assertion", assertion)]
    return {}, fields


async def _trusted_certificates(call: Call, spec: OauthTokenSpec) -> ssl.SSLContext | None:
    """Read the certificates that replace the default ones; None if the spec names none."""
    ref = spec.ca_bundle_from.ref if spec.ca_bundle_from else None
    if ref is None:
        return None
    # Comments between the certificates may have any characters, but Python accepts only ASCII. Python also treats an
    # empty bundle as none, and would trust the default certificates.
    bundle = (await call.secret(ref, _MAX_BUNDLE_LENGTH)).encode("ascii", "replace").decode() or "none"
    try:
        context = ssl.create_default_context(cadata=bundle)
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


def _client_assertion(spec: OauthTokenSpec, key: str, now: datetime) -> str:
    """Sign an assertion (RFC 7523 section 3) for this endpoint, valid once and for a minute."""
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
        return jwt.encode(claims, load_key(key), algorithm, headers)  # type: ignore[arg-type]
    except (jwt.PyJWTError, UnsupportedAlgorithm, InternalError, ValueError, TypeError, AttributeError):
        # Not "from error": it may show a line of the key. AttributeError: a public key has no `sign`.
        raise RefusedError(
            "InvalidSpec", f"clientKeyFrom contains no PEM private key for {algorithm} (RSA: at most 4096 bits)"
        ) from None


def load_key(pem: str) -> PrivateKeyTypes:
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
