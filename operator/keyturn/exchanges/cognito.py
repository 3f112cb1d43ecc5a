"""Amazon Cognito identity pools: a login's token for credentials, or for a token of the pool's own."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

from keyturn.api.exchanges.cognito import CognitoGetCredentialsSpec, CognitoGetOpenIdTokenSpec
from keyturn.api.times import whole
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token, jwt_times, safe, sized
from keyturn.exchanges.aws import AwsResponse
from keyturn.exchanges.aws_errors import AwsOperation, ErrorClassification, member
from keyturn.exchanges.context import Call

_LIFETIME = timedelta(minutes=10)
_LOGIN = ErrorClassification(
    "SourceInvalid", hint="does the pool know this login provider, and is its token still valid?"
)

# LimitExceededException is a quota, not a throttle, though botocore tries it again.
_CLASSIFICATIONS = {
    "DeveloperUserAlreadyRegisteredException": ErrorClassification("InvalidSpec"),
    "ExternalServiceException": ErrorClassification("Unavailable", hint="the login provider did not answer Cognito"),
    "InternalErrorException": ErrorClassification("Unavailable"),
    "InvalidIdentityPoolConfigurationException": ErrorClassification(
        "AccessDenied",
        hint="has the pool a role, and does its trust policy name cognito-identity.amazonaws.com and the pool?",
        eventually_consistent=True,
    ),
    "InvalidParameterException": ErrorClassification("InvalidSpec", hint="is the name of the login provider right?"),
    "LimitExceededException": ErrorClassification(
        "AccessDenied", hint="the pool has as many identities as it may have"
    ),
    "NotAuthorizedException": _LOGIN,
    "ResourceConflictException": ErrorClassification(
        "SourceInvalid", hint="the login belongs to another identity already"
    ),
    "ResourceNotFoundException": ErrorClassification("InvalidSpec", hint="is there such a pool in that region?"),
    "TooManyRequestsException": ErrorClassification("Throttled"),
}
# A kept identity that is gone, or that another user signed in instead of: the pool is asked anew.
_OF_ANOTHER = ("ResourceNotFoundException", "NotAuthorizedException")


def _operation(exchange: str, name: str, title: str) -> AwsOperation:
    return AwsOperation(exchange, "cognito-identity", name, f"Cognito {title}", _CLASSIFICATIONS)


_GET_ID = _operation("cognitoGetId", "get_id", "GetId")
_GET_CREDENTIALS = _operation("cognitoGetCredentials", "get_credentials_for_identity", "GetCredentialsForIdentity")
_GET_OPEN_ID_TOKEN = _operation("cognitoGetOpenIdToken", "get_open_id_token", "GetOpenIdToken")
_Cognito = CognitoGetCredentialsSpec | CognitoGetOpenIdTokenSpec


async def get_credentials(call: Call, wanted: CognitoGetCredentialsSpec, held: PipelineValues) -> PipelineValues:
    """Call cognito-identity GetCredentialsForIdentity, for the kept identity if there is one."""
    more = {"CustomRoleArn": wanted.custom_role_arn} if wanted.custom_role_arn else {}
    identity, response = await _identified(call, wanted, held, _GET_CREDENTIALS, more)
    given = member(_GET_CREDENTIALS, response.members, "Credentials")
    credentials = Credentials(
        access_key_id=safe(member(_GET_CREDENTIALS, given, "AccessKeyId"), "Cognito's access key id"),
        secret_access_key=safe(member(_GET_CREDENTIALS, given, "SecretKey"), "Cognito's secret key"),
        session_token=safe(member(_GET_CREDENTIALS, given, "SessionToken"), "Cognito's session token"),
        expires_at=whole(member(_GET_CREDENTIALS, given, "Expiration")),
    )
    return replace(
        held, credentials=credentials, principal=identity, identity_id=identity, request_id=response.request_id
    )


async def get_open_id_token(call: Call, wanted: CognitoGetOpenIdTokenSpec, held: PipelineValues) -> PipelineValues:
    """Call cognito-identity GetOpenIdToken. The answer names no expiry: it is the `exp` of the JWT."""
    identity, response = await _identified(call, wanted, held, _GET_OPEN_ID_TOKEN, {})
    token = safe(member(_GET_OPEN_ID_TOKEN, response.members, "Token"), "Cognito's token")
    access_token = Token(token, jwt_times(token)[1] or response.asked_at + _LIFETIME)
    return replace(held, access_token=access_token, identity_id=identity, request_id=response.request_id)


async def _identified(
    call: Call, wanted: _Cognito, held: PipelineValues, operation: AwsOperation, more: dict[str, str]
) -> tuple[str, AwsResponse]:
    """Ask for the kept identity; for the one that the pool names, where there is none or it does not fit."""
    logins = {
        provider: sized(held.token_to_read(which).value, f"the token for {provider}", 1, 50000)
        for provider, which in wanted.logins.items()
    }

    async def get_credentials_for(identity: str) -> tuple[str, AwsResponse]:
        parameters = {"IdentityId": identity, "Logins": logins, **more}
        response = await call.context.aws.call(operation, call.region, parameters)
        return response.members.get("IdentityId", identity), response

    async def get_id() -> str:
        account = {"AccountId": wanted.account_id} if wanted.account_id else {}
        parameters = {"IdentityPoolId": wanted.identity_pool_id, "Logins": logins, **account}
        response = await call.context.aws.call(_GET_ID, call.region, parameters)
        return str(member(_GET_ID, response.members, "IdentityId"))

    return await _with_kept(held.identity_id, get_credentials_for, get_id)


async def _with_kept(
    kept: str,
    call: Callable[[str], Awaitable[tuple[str, AwsResponse]]],
    get_id: Callable[[], Awaitable[str]],
) -> tuple[str, AwsResponse]:
    if not kept:
        return await call(await get_id())
    try:
        return await call(kept)
    except RefusedError as error:
        if error.code not in _OF_ANOTHER:
            raise
        identity = await get_id()
        if identity == kept:
            raise
    return await call(identity)
