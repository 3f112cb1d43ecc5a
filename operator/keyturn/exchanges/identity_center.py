"""AWS IAM Identity Center: tokens for an application, and the credentials of a user's permission set."""

from dataclasses import replace
from typing import Any

from keyturn.api.exchanges.base import ACCESS_TOKEN_TYPE, AUTHORIZATION_CODE, JWT_BEARER, REFRESH_TOKEN
from keyturn.api.exchanges.identity_center import IdentityCenterCreateTokenSpec, IdentityCenterGetRoleCredentialsSpec
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token, require_safe, with_new_tokens
from keyturn.core.token_times import jwt_claims, jwt_times, refresh_token_expiry, token_expiry
from keyturn.exchanges.aws import AwsResponse
from keyturn.exchanges.aws_errors import KEYS, UNKNOWN_KEY, AwsOperation, ErrorClassification
from keyturn.exchanges.context import Call
from keyturn.exchanges.transmission import Send, Transmission

_TOKENS = ("accessToken", "refreshToken")
_CONTEXT = "sts:identity_context"
_CREDENTIALS = ("roleCredentials", "accessKeyId", "secretAccessKey", "sessionToken", "expiration")
_APPLICATION = "check that clientId is the application's ARN and that its authentication methods allow this caller"
_ASSIGNED = (
    "check that the user is assigned to the application (unless it requires no assignments), that the application"
    " allows this grant, and that the caller's policy allows sso-oauth:CreateTokenWithIAM"
)
# Not SourceInvalid, which would mean that the code or assertion itself was refused and must not be sent again.
_KEYS, _UNKNOWN_KEY = replace(KEYS, reason="AccessDenied"), replace(UNKNOWN_KEY, reason="AccessDenied")
_NOT_ASSIGNED = ErrorClassification(
    "AccessDenied", hint="check that the user is assigned to this permission set in this account"
)

# Errors of the operations in the AWS API reference.
_CREATE_TOKEN = AwsOperation(
    exchange="identityCenterCreateToken",
    service="sso-oidc",
    name="create_token_with_iam",
    title="Identity Center CreateTokenWithIAM",
    classifications={
        "AccessDeniedException": ErrorClassification("AccessDenied", hint=_ASSIGNED, eventually_consistent=True),
        "AuthorizationPendingException": ErrorClassification("Unavailable", hint="the user has not signed in yet"),
        "ExpiredTokenException": ErrorClassification(
            "SourceExpired", hint="the code, assertion or token has expired, or the credentials that sign the call have"
        ),
        "InternalServerException": ErrorClassification("Unavailable"),
        "InvalidClientException": ErrorClassification("AccessDenied", hint=_APPLICATION),
        "InvalidGrantException": ErrorClassification(
            "SourceInvalid",
            hint="the code, assertion or token is expired, used, revoked or belongs to another application;"
            " sign in again (kubectl keyturn login)",
        ),
        "InvalidRequestException": ErrorClassification(
            "InvalidSpec",
            hint="check the parameters, such as redirectUri, and that the KMS key of Identity Center can be used",
        ),
        "InvalidRequestRegionException": ErrorClassification("InvalidSpec", hint="the token is from another region"),
        "InvalidScopeException": ErrorClassification("InvalidSpec", hint="the application does not have this scope"),
        "InvalidSignatureException": _KEYS,
        "SlowDownException": ErrorClassification("Throttled"),
        "UnauthorizedClientException": ErrorClassification("AccessDenied", hint=_APPLICATION),
        "UnrecognizedClientException": _UNKNOWN_KEY,
        "UnsupportedGrantTypeException": ErrorClassification(
            "InvalidSpec", hint="the application does not allow this grant"
        ),
    },
)
_GET_ROLE_CREDENTIALS = AwsOperation(
    exchange="identityCenterGetRoleCredentials",
    service="sso",
    name="get_role_credentials",
    title="Identity Center GetRoleCredentials",
    classifications={
        "ForbiddenException": _NOT_ASSIGNED,
        "InvalidRequestException": ErrorClassification("InvalidSpec", hint="check roleName and accountId"),
        "ResourceNotFoundException": _NOT_ASSIGNED,
        "TooManyRequestsException": ErrorClassification("Throttled"),
        "UnauthorizedException": ErrorClassification(
            "SourceInvalid",
            hint="the token has expired or its session has ended; sign in again (kubectl keyturn login)",
        ),
    },
)


async def prepare_create_token(call: Call, spec: IdentityCenterCreateTokenSpec, values: PipelineValues) -> Send:
    """Prepare a call of sso-oidc CreateTokenWithIAM, signed with the credentials of the pipeline.

    A single-use code, assertion or subject token is sent only until a response contains a refresh token, which is sent
    from then on. The expiry is `expiresIn` after the time of the request. The identity context comes from the response
    or, if it is missing there, from the claim in the ID token.
    """
    parameters: dict[str, Any] = {"clientId": spec.client_id} | await _grant(call, spec, values)
    if spec.scope:
        parameters["scope"] = list(spec.scope)
    is_repeatable = "subjectToken" in parameters and values.single_use_credential is None
    # A call whose response was lost may have consumed the code, assertion or refresh token.
    operation = _CREATE_TOKEN if is_repeatable else replace(_CREATE_TOKEN, attempts=1, consumes=call.consumes)
    signer = values.signing_credentials
    call.check_aws_rate(operation, signer, values.principal)

    async def send(transmission: Transmission) -> PipelineValues:
        response = await call.call_aws(operation, parameters, signer, transmission, principal=values.principal)
        if not any(response.members.get(name) for name in (_TOKENS[:1] if is_repeatable else _TOKENS)):
            # botocore reads the error page of a proxy as a response without members.
            message = f"{operation.title} returned no token"
            raise UnavailableError("Unavailable", message, outcome_unknown=operation.consumes)
        new_token = None if is_repeatable else response.members.get("refreshToken")
        results = with_new_tokens(values, new_token or None, lambda: _with_tokens(values, response))
        return replace(results, refresh_token=None) if is_repeatable else results

    return send


async def _grant(call: Call, spec: IdentityCenterCreateTokenSpec, values: PipelineValues) -> dict[str, Any]:
    """The parameters of the grant."""
    if spec.is_refresh_grant or values.refresh_token:
        token = values.refresh_token or values.current_token.value
        return {"grantType": REFRESH_TOKEN, "refreshToken": token}
    if spec.grant_type == AUTHORIZATION_CODE:
        if values.single_use_credential is None:
            raise RefusedError("InvalidSpec", "grantType authorization_code requires codeFrom")
        ref = spec.code_verifier_from
        verifier = {"codeVerifier": await call.secret(ref.secret_key_ref)} if ref else {}
        return {
            "grantType": AUTHORIZATION_CODE,
            "code": values.single_use_credential,
            "redirectUri": spec.redirect_uri,
        } | verifier
    if spec.grant_type == JWT_BEARER:
        return {
            "grantType": JWT_BEARER,
            "assertion": values.single_use_credential or values.input_token(spec.from_).value,
        }
    requested_type = {"requestedTokenType": spec.requested_token_type} if spec.requested_token_type else {}
    return {
        "grantType": spec.grant_type,
        "subjectToken": values.single_use_credential or values.input_token(spec.from_).value,
        "subjectTokenType": spec.subject_token_type or ACCESS_TOKEN_TYPE,
    } | requested_type


def _with_tokens(values: PipelineValues, response: AwsResponse) -> PipelineValues:
    """Add the tokens of the response. Never fails: a new refresh token must be saved even if the rest is invalid."""
    members = response.members
    access_token, id_token, refresh_token = (
        members.get(name) or None for name in ("accessToken", "idToken", "refreshToken")
    )
    lifetime = {"expires_in": members.get("expiresIn")}
    expires_at = token_expiry(access_token or "", response.requested_at, lifetime)
    # The claim is signed: STS verifies it, not Keyturn.
    claim = (jwt_claims(id_token or "") or {}).get(_CONTEXT)
    context = (members.get("awsAdditionalDetails") or {}).get("identityContext")
    context = context or (claim if isinstance(claim, str) else None) or values.identity_context
    return replace(
        values,
        access_token=Token(access_token, expires_at) if access_token else None,
        id_token=Token(id_token, jwt_times(id_token).expires_at) if id_token else None,
        refresh_token=refresh_token,
        refresh_expires_at=refresh_token_expiry(refresh_token, response.requested_at, {}),
        identity_context=context,
        request_id=response.request_id,
    )


async def get_role_credentials(
    call: Call, spec: IdentityCenterGetRoleCredentialsSpec, values: PipelineValues
) -> PipelineValues:
    """Call sso GetRoleCredentials, which needs no AWS credentials."""
    parameters = {
        "roleName": spec.role_name,
        "accountId": spec.account_id,
        # Checked because it is sent in a header.
        "accessToken": require_safe(values.current_token.value, "the access token"),
    }
    operation = _GET_ROLE_CREDENTIALS.for_resource(f"{spec.role_name} in account {spec.account_id}")
    response = await call.context.aws.call(
        operation, call.region, parameters, quota_owner=spec.account_id, namespace=call.namespace
    )
    credentials = response.credentials(operation, _CREDENTIALS)
    return replace(values, credentials=credentials, principal="", request_id=response.request_id)
