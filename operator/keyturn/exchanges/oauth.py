"""OAuth 2.0: requests tokens from any issuer, with one of four grants and any of four client authentications."""

import base64
import re
import ssl
from dataclasses import replace

from keyturn.api.exchanges.base import JWT_BEARER, REFRESH_TOKEN, TOKEN_EXCHANGE
from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.core.errors import RefusedError, ThrottledError
from keyturn.core.pipeline_values import PipelineValues
from keyturn.exchanges import clock_skew
from keyturn.exchanges.client_authentication import Fields, authenticate_client
from keyturn.exchanges.context import Call
from keyturn.exchanges.issuer_http import Form
from keyturn.exchanges.token_response import read_token_response
from keyturn.exchanges.transmission import Send, Transmission

# The parameter for the token, by grant: RFC 6749 section 6, RFC 8693 section 2.1, RFC 7523 section 2.1.
_TOKEN_PARAMETERS = {REFRESH_TOKEN: "refresh_token", TOKEN_EXCHANGE: "subject_token", JWT_BEARER: "assertion"}
# The bundle of all public certificate authorities, as Mozilla and AWS publish it, has 150 certificates in 220 KB.
_MAX_BUNDLE_LENGTH, _MAX_CERTIFICATES = 512 * 1024, 300
_LABEL = "(?:X509 )?CERTIFICATE-----"
_CERTIFICATE = re.compile(rf"-----BEGIN {_LABEL}([A-Za-z0-9+/=\s]*)-----END {_LABEL}")
# The start of both object IDs for explicit parameters of an elliptic curve: 1.2.840.10045.1 (RFC 3279 section 2.3.5).
_EXPLICIT_CURVE = bytes.fromhex("2a8648ce3d01")


async def prepare_token(call: Call, spec: OauthTokenSpec, values: PipelineValues) -> Send:
    """Build one request to a token endpoint, and return the call that sends it.

    If the response to the refresh_token grant contains no refresh_token, the old one stays valid. A single-use subject
    token is sent only until a response contains a refresh token, which is sent from then on. Refresh tokens from other
    grants are dropped. The lifetime of an access token is assumed only if the issuer states none.
    """
    fields = await _form_fields(call, spec, values)
    headers, client_fields = await authenticate_client(call, spec, values)
    trusted = await _trusted_certificates(call, spec)
    issuer_client, consumes = call.context.issuer_client, call.consumes
    sends_token = bool(values.refresh_token) or "token" in spec.required_kinds
    form = Form(spec.token_url, fields + client_fields, headers, trusted, consumes, call.namespace)
    request = issuer_client.prepare(form)

    async def send(transmission: Transmission) -> PipelineValues:
        response = await issuer_client.post("oauthToken", request, transmission)
        try:
            results = read_token_response(values, response, spec.assumed, sends_token=sends_token, consumes=consumes)
        except ThrottledError:
            issuer_client.throttled()
            raise
        except RefusedError as error:
            # Issuers check `iat` and `exp` of a client assertion, and return the same code as for a wrong key.
            is_signed = spec.client_key_from is not None and error.reason == "AccessDenied"
            if is_signed and abs(response.skew) >= clock_skew.SIGNIFICANT:
                raise clock_skew.to_error(error.message, response.skew, "the issuer") from None
            raise
        return results if consumes else replace(results, refresh_token=None)

    return send


async def _form_fields(call: Call, spec: OauthTokenSpec, values: PipelineValues) -> Fields:
    """The fields of the form without those of the client authentication. A refresh token replaces the spec's grant."""
    grant: dict[str, str | None] = {"grant_type": spec.grant_type}
    if values.refresh_token:
        grant = {"grant_type": REFRESH_TOKEN, "refresh_token": values.refresh_token}
    elif "token" in spec.required_kinds:
        # The source token, even after an exchange that returned another one for clientAssertionFrom.
        source = values.source_token if spec.is_refresh_grant else None
        token = values.single_use_credential or (source or values.input_token(spec.from_)).value
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


async def _trusted_certificates(call: Call, spec: OauthTokenSpec) -> ssl.SSLContext | None:
    """Read the CA certificates that replace the default ones; None if the spec has none."""
    ref = spec.ca_bundle_from.ref if spec.ca_bundle_from else None
    if ref is None:
        return None
    certificates = _certificates(await call.secret(ref, _MAX_BUNDLE_LENGTH))
    try:
        context = ssl.create_default_context(cadata=certificates)
    except (ssl.SSLError, ValueError):
        raise RefusedError("InvalidSpec", "caBundleFrom contains a certificate that is damaged") from None
    # Python 3.13 requires extensions that the certificates of many private CAs lack.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _certificates(bundle: str) -> bytes:
    """Return the certificates of a bundle in DER. Between them there may be comments with any characters.

    Raises RefusedError (InvalidSpec) for a bundle that would block the event loop. OpenSSL sorts all certificates again
    for each that it adds, and RFC 5480 section 2.1.1 forbids explicit parameters, which can take half a second.
    """
    encoded = _CERTIFICATE.findall(bundle)
    if not encoded:
        # OpenSSL would trust the default certificates.
        raise RefusedError("InvalidSpec", "caBundleFrom contains no certificates in PEM")
    if len(encoded) > _MAX_CERTIFICATES:
        problem = f"caBundleFrom contains {len(encoded)} certificates; at most {_MAX_CERTIFICATES} are allowed"
        raise RefusedError("InvalidSpec", problem)
    try:
        certificates = b"".join(base64.b64decode("".join(text.split()), validate=True) for text in encoded)
    except ValueError:
        raise RefusedError("InvalidSpec", "caBundleFrom contains a certificate that is damaged") from None
    if _EXPLICIT_CURVE in certificates:
        problem = "caBundleFrom contains a certificate with explicit elliptic curve parameters"
        raise RefusedError("InvalidSpec", f"{problem}; use one with a named curve")
    return certificates
