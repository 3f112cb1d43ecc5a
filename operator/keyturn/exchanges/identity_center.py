"""AWS IAM Identity Center: its tokens for an application, and the credentials of what a user is assigned to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from keyturn.api.exchanges.base import ACCESS_TOKEN_TYPE, AUTHORIZATION_CODE, JWT_BEARER, REFRESH_TOKEN
from keyturn.api.exchanges.identity_center import IdentityCenterCreateTokenSpec, IdentityCenterGetRoleCredentialsSpec
from keyturn.api.times import whole
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token, jwt_claims, jwt_times, safe
from keyturn.exchanges.aws import AwsResponse
from keyturn.exchanges.aws_errors import KEYS, AwsOperation, ErrorClassification, member
from keyturn.exchanges.context import Call

_TOKENS = ("accessToken", "refreshToken")
_CONTEXT = "sts:identity_context"
_LONGEST_LIFE = timedelta(days=366)
_LAST_MILLISECOND = 253402300799000  # of the year 9999
_APPLICATION = "is clientId the application's ARN, and is this caller among its authentication methods?"
_ASSIGNED = (
    "is the user assigned to the application (or does it need no assignment), does the application allow this"
    " grant, and the caller's policy sso-oauth:CreateTokenWithIAM?"
)
# Not SourceInvalid, which says of a code or an assertion that it was refused itself, and is not to be sent again.
_KEYS = replace(KEYS, reason="AccessDenied")

# The operation's page, section Errors.
_CREATE_TOKEN = AwsOperation(
    exchange="identityCenterCreateToken",
    service="sso-oidc",
    name="create_token_with_iam",
    title="Identity Center CreateTokenWithIAM",
    classifications={
        "AccessDeniedException": ErrorClassification("AccessDenied", hint=_ASSIGNED, eventually_consistent=True),
        "AuthorizationPendingException": ErrorClassification("Unavailable", hint="the user has not signed in yet"),
        "ExpiredTokenException": ErrorClassification(
            "SourceExpired", hint="the code, the assertion or the token has expired, or the credentials that sign"
        ),
        "InternalServerException": ErrorClassification("Unavailable"),
        "InvalidClientException": ErrorClassification("AccessDenied", hint=_APPLICATION),
        "InvalidGrantException": ErrorClassification(
            "SourceInvalid",
            hint="the code, the assertion or the token is expired, used, revoked or another application's; sign in"
            " again",
        ),
        "InvalidRequestException": ErrorClassification(
            "InvalidSpec",
            hint="a parameter is missing or wrong, such as redirectUri, or its KMS key cannot be used",
        ),
        "InvalidRequestRegionException": ErrorClassification("InvalidSpec", hint="the token is of another region"),
        "InvalidScopeException": ErrorClassification("InvalidSpec", hint="the application has no such scope"),
        "InvalidSignatureException": _KEYS,
        "SlowDownException": ErrorClassification("Throttled"),
        "UnauthorizedClientException": ErrorClassification("AccessDenied", hint=_APPLICATION),
        "UnrecognizedClientException": _KEYS,
        "UnsupportedGrantTypeException": ErrorClassification(
            "InvalidSpec", hint="the application does not allow this grant"
        ),
    },
)
# A code, an assertion and a refresh token may be used up by a call whose answer was lost.
_CREATE_TOKEN_ONCE = replace(_CREATE_TOKEN, attempts=1)
_GET_ROLE_CREDENTIALS = AwsOperation(
    exchange="identityCenterGetRoleCredentials",
    service="sso",
    name="get_role_credentials",
    title="Identity Center GetRoleCredentials",
    classifications={
        "ForbiddenException": ErrorClassification(
            "AccessDenied", hint="is the user assigned to that permission set there?"
        ),
        "InvalidRequestException": ErrorClassification("InvalidSpec", hint="are roleName and accountId right?"),
        "ResourceNotFoundException": ErrorClassification(
            "AccessDenied", hint="is the user assigned to that permission set in that account?"
        ),
        "TooManyRequestsException": ErrorClassification("Throttled"),
        "UnauthorizedException": ErrorClassification(
            "SourceInvalid", hint="the token has expired, or its session was ended; sign in again"
        ),
    },
)


async def create_token(call: Call, wanted: IdentityCenterCreateTokenSpec, held: PipelineValues) -> PipelineValues:
    """Call sso-oidc CreateTokenWithIAM, signed with the credentials that are held.

    Where a code, an assertion or a subject token is used once, what it gave goes on: `held.refresh_token` is sent
    in its place.
    The expiry is `expiresIn` from the moment of the request. The identity context is the answer's own, else the
    claim of the ID token.
    """
    parameters: dict[str, Any] = {"clientId": wanted.client_id} | await _grant(call, wanted, held)
    if wanted.scope:
        parameters["scope"] = list(wanted.scope)
    repeatable = "subjectToken" in parameters and held.proof is None
    operation = _CREATE_TOKEN if repeatable else _CREATE_TOKEN_ONCE
    response = await call.context.aws.call(operation, call.region, parameters, held.own_credentials)
    if not any(response.members.get(name) for name in (_TOKENS[:1] if repeatable else _TOKENS)):
        # botocore takes a page of something between us and AWS for an answer without members.
        raise UnavailableError("Unavailable", f"{operation.title} answered no token", outcome_unknown=not repeatable)
    given = _given(held, response)
    return replace(given, refresh_token=None) if repeatable else given


async def _grant(call: Call, wanted: IdentityCenterCreateTokenSpec, held: PipelineValues) -> dict[str, Any]:
    """What the grant sends, and its name."""
    if wanted.consumes_refresh_token or held.refresh_token:
        token = held.refresh_token or held.newest_token.value
        return {"grantType": REFRESH_TOKEN, "refreshToken": token}
    if wanted.grant_type == AUTHORIZATION_CODE:
        return {"grantType": AUTHORIZATION_CODE} | await _code(call, wanted, held)
    if wanted.grant_type == JWT_BEARER:
        return {"grantType": JWT_BEARER, "assertion": held.proof or held.token_to_read(wanted.from_).value}
    requested = {"requestedTokenType": wanted.requested_token_type} if wanted.requested_token_type else {}
    return {
        "grantType": wanted.grant_type,
        "subjectToken": held.proof or held.token_to_read(wanted.from_).value,
        "subjectTokenType": wanted.subject_token_type or ACCESS_TOKEN_TYPE,
    } | requested


async def _code(call: Call, wanted: IdentityCenterCreateTokenSpec, held: PipelineValues) -> dict[str, Any]:
    if held.proof is None:
        raise RefusedError("InvalidSpec", "grantType authorization_code needs codeFrom")
    verifier = wanted.code_verifier_from
    more = {"codeVerifier": await call.secret(verifier.secret_key_ref)} if verifier else {}
    return {"code": held.proof, "redirectUri": wanted.redirect_uri} | more


def _given(held: PipelineValues, response: AwsResponse) -> PipelineValues:
    """Take what was given. Nothing is refused here: a new refresh token must be saved, whatever else is odd."""
    members = response.members
    access_token, id_token = members.get("accessToken"), members.get("idToken")
    context = (members.get("awsAdditionalDetails") or {}).get("identityContext")
    return replace(
        held,
        access_token=Token(access_token, _expiry(access_token, response)) if access_token else None,
        id_token=Token(id_token, jwt_times(id_token)[1]) if id_token else None,
        refresh_token=members.get("refreshToken") or None,
        identity_context=context or _context(id_token) or held.identity_context,
        request_id=response.request_id,
    )


def _expiry(access_token: str, response: AwsResponse) -> datetime | None:
    seconds = response.members.get("expiresIn") or 0
    return (
        response.asked_at + timedelta(seconds=min(seconds, _LONGEST_LIFE.total_seconds()))
        if seconds > 0
        else jwt_times(access_token)[1]
    )


def _context(id_token: str | None) -> str | None:
    """Read the claim that is AWS's signed word for the user; STS checks it, we only carry it."""
    context = (jwt_claims(id_token or "") or {}).get(_CONTEXT)
    return context if isinstance(context, str) and context else None


async def get_role_credentials(
    call: Call, wanted: IdentityCenterGetRoleCredentialsSpec, held: PipelineValues
) -> PipelineValues:
    """Call sso GetRoleCredentials, which needs no AWS credentials. Its expiry is in milliseconds since 1970."""
    parameters = {
        "roleName": wanted.role_name,
        "accountId": wanted.account_id,
        # It goes into a header.
        "accessToken": safe(held.newest_token.value, "the access token"),
    }
    response = await call.context.aws.call(_GET_ROLE_CREDENTIALS, call.region, parameters)
    given = member(_GET_ROLE_CREDENTIALS, response.members, "roleCredentials")
    expiration = max(0, min(member(_GET_ROLE_CREDENTIALS, given, "expiration"), _LAST_MILLISECOND))
    credentials = Credentials(
        access_key_id=safe(member(_GET_ROLE_CREDENTIALS, given, "accessKeyId"), "the access key id"),
        secret_access_key=safe(member(_GET_ROLE_CREDENTIALS, given, "secretAccessKey"), "the secret access key"),
        session_token=safe(member(_GET_ROLE_CREDENTIALS, given, "sessionToken"), "the session token"),
        expires_at=whole(datetime.fromtimestamp(expiration / 1000, UTC)),
    )
    return replace(held, credentials=credentials, principal="", request_id=response.request_id)
