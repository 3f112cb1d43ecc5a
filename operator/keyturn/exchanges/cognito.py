"""Amazon Cognito identity pools: exchanges the token of a login for credentials, or for a token of the pool."""

from dataclasses import replace
from datetime import timedelta

from keyturn.api.exchanges.cognito import CognitoGetCredentialsSpec, CognitoGetOpenIdTokenSpec
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import PipelineValues, Token, require_length, require_safe
from keyturn.core.token_times import token_expiry
from keyturn.exchanges.aws import AwsResponse
from keyturn.exchanges.aws_errors import AwsOperation, ErrorClassification, member
from keyturn.exchanges.context import Call

_LIFETIME = timedelta(minutes=10)
_CREDENTIALS = ("Credentials", "AccessKeyId", "SecretKey", "SessionToken", "Expiration")
# Cognito verifies the login with keys that it fetches from the provider. That may fail for some minutes.
_LOGIN = ErrorClassification(
    "SourceInvalid",
    hint="check that the pool has this login provider, and that its token is still valid",
    transient=True,
)

# LimitExceededException is about a quota, not throttling, although botocore retries it.
_CLASSIFICATIONS = {
    "DeveloperUserAlreadyRegisteredException": ErrorClassification("InvalidSpec"),
    "ExternalServiceException": ErrorClassification(
        "SourceInvalid", hint="the login provider did not respond to Cognito", transient=True
    ),
    "InternalErrorException": ErrorClassification("Unavailable"),
    "InvalidIdentityPoolConfigurationException": ErrorClassification(
        "AccessDenied",
        hint="check that the pool has a role whose trust policy allows cognito-identity.amazonaws.com for this pool",
        eventually_consistent=True,
    ),
    "InvalidParameterException": ErrorClassification("InvalidSpec", hint="check the name of the login provider"),
    "LimitExceededException": ErrorClassification(
        "AccessDenied", hint="the pool has reached its maximum number of identities"
    ),
    "NotAuthorizedException": _LOGIN,
    "ResourceConflictException": ErrorClassification(
        "SourceInvalid", hint="the login already belongs to another identity"
    ),
    "ResourceNotFoundException": ErrorClassification("InvalidSpec", hint="check identityPoolId and the region"),
    "TooManyRequestsException": ErrorClassification("Throttled"),
}
# The stored identity was deleted, or another user has signed in: GetId is called again.
_STALE_IDENTITY = ("ResourceNotFoundException", "NotAuthorizedException")


def _operation(exchange: str, name: str, title: str) -> AwsOperation:
    return AwsOperation(exchange, "cognito-identity", name, f"Cognito {title}", _CLASSIFICATIONS)


_GET_ID = _operation("cognitoGetId", "get_id", "GetId")
_GET_CREDENTIALS = _operation("cognitoGetCredentials", "get_credentials_for_identity", "GetCredentialsForIdentity")
_GET_OPEN_ID_TOKEN = _operation("cognitoGetOpenIdToken", "get_open_id_token", "GetOpenIdToken")
_Cognito = CognitoGetCredentialsSpec | CognitoGetOpenIdTokenSpec


async def get_credentials(call: Call, spec: CognitoGetCredentialsSpec, values: PipelineValues) -> PipelineValues:
    """Call cognito-identity GetCredentialsForIdentity, for the stored identity if there is one."""
    custom_role = {"CustomRoleArn": spec.custom_role_arn} if spec.custom_role_arn else {}
    identity, response = await _call_for_identity(call, spec, values, _GET_CREDENTIALS, custom_role)
    credentials = response.credentials(_GET_CREDENTIALS, _CREDENTIALS)
    return replace(
        values, credentials=credentials, principal=identity, identity_id=identity, request_id=response.request_id
    )


async def get_open_id_token(call: Call, spec: CognitoGetOpenIdTokenSpec, values: PipelineValues) -> PipelineValues:
    """Call cognito-identity GetOpenIdToken. The token expires at its `exp`, or after ten minutes."""
    identity, response = await _call_for_identity(call, spec, values, _GET_OPEN_ID_TOKEN, {})
    token = require_safe(member(_GET_OPEN_ID_TOKEN, response.members, "Token"), "Cognito's token")
    access_token = Token(token, token_expiry(token, response.requested_at, assumed_lifetime=_LIFETIME))
    return replace(values, access_token=access_token, identity_id=identity, request_id=response.request_id)


async def _call_for_identity(
    call: Call, spec: _Cognito, values: PipelineValues, operation: AwsOperation, custom_role: dict[str, str]
) -> tuple[str, AwsResponse]:
    """Call the operation for the stored identity, or for the one from GetId if it is missing or stale."""
    logins = {
        provider: require_length(values.input_token(token).value, f"the token for {provider}", 1, 50000)
        for provider, token in spec.logins.items()
    }

    async def call_for(identity: str) -> tuple[str, AwsResponse]:
        parameters = {"IdentityId": identity, "Logins": logins} | custom_role
        response = await call.call_aws(operation, parameters)
        return response.members.get("IdentityId", identity), response

    async def get_id() -> str:
        account = {"AccountId": spec.account_id} if spec.account_id else {}
        parameters = {"IdentityPoolId": spec.identity_pool_id, "Logins": logins, **account}
        response = await call.call_aws(_GET_ID, parameters)
        return str(member(_GET_ID, response.members, "IdentityId"))

    stored = values.identity_id
    if not stored:
        return await call_for(await get_id())
    try:
        return await call_for(stored)
    except RefusedError as error:
        if error.code not in _STALE_IDENTITY:
            raise
        identity = await get_id()
        if identity == stored:
            raise
    return await call_for(identity)
