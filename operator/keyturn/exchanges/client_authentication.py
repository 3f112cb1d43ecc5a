"""OAuth client authentication: with a secret, an assertion that the client signs, or a token from another issuer."""

from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.exchanges.oauth_client import CLIENT_ASSERTION_TYPE, ClientAssertionSource, basic_authorization
from keyturn.api.source import SecretValue
from keyturn.api.times import rfc3339
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import PipelineValues, unwrap
from keyturn.core.token_times import jwt_times
from keyturn.exchanges.context import Call

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
        return {"Authorization": basic_authorization(client_id, await _secret(call, spec.client_secret_from))}, []
    fields: Fields = [("client_id", client_id)] if client_id else []
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
    return signed_assertion(spec, key, certificate_text, call.context.issuer_client.now())
