"""OAuth 2.0: requests tokens from any issuer, with one of four grants and any of four client authentications."""

from dataclasses import replace

from keyturn.api.exchanges.base import JWT_BEARER, REFRESH_TOKEN, TOKEN_EXCHANGE
from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.exchanges.oauth_client import CLIENT_ASSERTION_TYPE, ClientAssertionSource, basic_authorization
from keyturn.api.source import SecretValue
from keyturn.api.times import rfc3339
from keyturn.core.clock import SIGNIFICANT_SKEW, clock_skew_error
from keyturn.core.errors import RefusedError, ThrottledError
from keyturn.core.pipeline_values import PipelineValues, unwrap
from keyturn.core.token_times import jwt_times
from keyturn.exchanges.ca_bundles import load_ca_bundle
from keyturn.exchanges.context import Call
from keyturn.exchanges.issuer_http import Form
from keyturn.exchanges.token_response import read_token_response
from keyturn.exchanges.transmission import Send, Transmission

# The parameter for the token, by grant: RFC 6749 section 6, RFC 8693 section 2.1, RFC 7523 section 2.1.
_TOKEN_PARAMETERS = {REFRESH_TOKEN: "refresh_token", TOKEN_EXCHANGE: "subject_token", JWT_BEARER: "assertion"}
# The shortest lifetime that Kubernetes allows, because the token is used only once.
_SERVICE_ACCOUNT_SECONDS = 600
# The dots in a signed and in an encrypted JWT (RFC 7515 section 7.1, RFC 7516 section 7.1).
_JWT_DOTS = (2, 4)
_Fields = list[tuple[str, str]]


async def prepare_token(call: Call, spec: OauthTokenSpec, values: PipelineValues) -> Send:
    """Build one request to a token endpoint, and return the call that sends it.

    If the response to the refresh_token grant contains no refresh_token, the old one stays valid. A single-use subject
    token is sent only until a response contains a refresh token, which is sent from then on. Refresh tokens from other
    grants are dropped. The lifetime of an access token is assumed only if the issuer states none.
    """
    fields = await _form_fields(call, spec, values)
    headers, client_fields = await authenticate_client(call, spec, values)
    bundle = spec.ca_bundle_from.ref if spec.ca_bundle_from else None
    trusted = await load_ca_bundle(call, bundle) if bundle else None
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
            if is_signed and abs(response.skew) >= SIGNIFICANT_SKEW:
                raise clock_skew_error(error.message, response.skew, "the issuer") from None
            raise
        return results if consumes else replace(results, refresh_token=None)

    return send


async def _form_fields(call: Call, spec: OauthTokenSpec, values: PipelineValues) -> _Fields:
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
    fields: _Fields = [(name, value) for name, value in parameters.items() if value]
    fields += [("audience", audience) for audience in spec.audience or ()]
    return fields + [("resource", resource) for resource in spec.resource or ()]


async def authenticate_client(
    call: Call, spec: OauthTokenSpec, values: PipelineValues
) -> tuple[dict[str, str], _Fields]:
    """Return the headers and the fields with which the client authenticates.

    RFC 6749 section 2.3.1 for basic and post, RFC 7521 section 4.2 for assertions.
    """
    method, client_id = spec.authentication, spec.client_id or ""
    if method == "client_secret_basic":
        return {"Authorization": basic_authorization(client_id, await _secret(call, spec.client_secret_from))}, []
    fields: _Fields = [("client_id", client_id)] if client_id else []
    if method == "client_secret_post":
        fields.append(("client_secret", await _secret(call, spec.client_secret_from)))
    if method == "private_key_jwt":
        source = spec.client_assertion_from
        assertion = await _external_assertion(call, source, values) if source else await _own_assertion(call, spec)
        fields += [("client_assertion_type", CLIENT_ASSERTION_TYPE), ("client_assertion", assertion)]
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


async def _own_assertion(call: Call, spec: OauthTokenSpec) -> str:
    from keyturn.exchanges.client_assertion import signed_assertion  # noqa: PLC0415 - it takes 10 MiB, and few sign

    key, certificate = await _secret(call, spec.client_key_from), spec.client_certificate_from
    certificate_text = await call.secret(certificate.secret_key_ref) if certificate else None

    def sign() -> str:
        return signed_assertion(spec, key, certificate_text, call.context.issuer_client.now())

    # With a crafted RSA key, a signature takes up to 24 ms, and all workers could sign in one iteration of the loop.
    return await call.context.cpu_limiter.run(call.namespace, sign)
