"""Amazon Cognito identity pools: a login's token for credentials, or for a token of the pool's own."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

from keyturn.api.exchanges.registry import CognitoGetCredentials, CognitoGetOpenIdToken
from keyturn.api.times import whole
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, Holding, Token, jwt_times, safe, sized
from keyturn.exchanges.aws import Answer
from keyturn.exchanges.aws_errors import Operation, Verdict, member
from keyturn.exchanges.context import Call

_LIFETIME = timedelta(minutes=10)
_LOGIN = Verdict("SourceInvalid", hint="does the pool know this login provider, and is its token still valid?")

# LimitExceededException is a quota, not a throttle, though botocore tries it again.
_VERDICTS = {
    "DeveloperUserAlreadyRegisteredException": Verdict("InvalidSpec"),
    "ExternalServiceException": Verdict("Unavailable", hint="the login provider did not answer Cognito"),
    "InternalErrorException": Verdict("Unavailable"),
    "InvalidIdentityPoolConfigurationException": Verdict(
        "AccessDenied",
        hint="has the pool a role, and does its trust policy name cognito-identity.amazonaws.com and the pool?",
        settles=True,
    ),
    "InvalidParameterException": Verdict("InvalidSpec", hint="is the name of the login provider right?"),
    "LimitExceededException": Verdict("AccessDenied", hint="the pool has as many identities as it may have"),
    "NotAuthorizedException": _LOGIN,
    "ResourceConflictException": Verdict("SourceInvalid", hint="the login belongs to another identity already"),
    "ResourceNotFoundException": Verdict("InvalidSpec", hint="is there such a pool in that region?"),
    "TooManyRequestsException": Verdict("Throttled"),
}
# A kept identity that is gone, or that another user signed in instead of: the pool is asked anew.
_OF_ANOTHER = ("ResourceNotFoundException", "NotAuthorizedException")


def _operation(exchange: str, name: str, title: str) -> Operation:
    return Operation(exchange, "cognito-identity", name, f"Cognito {title}", _VERDICTS)


_GET_ID = _operation("cognitoGetId", "get_id", "GetId")
_GET_CREDENTIALS = _operation("cognitoGetCredentials", "get_credentials_for_identity", "GetCredentialsForIdentity")
_GET_OPEN_ID_TOKEN = _operation("cognitoGetOpenIdToken", "get_open_id_token", "GetOpenIdToken")
_Cognito = CognitoGetCredentials | CognitoGetOpenIdToken


async def get_credentials(call: Call, wanted: CognitoGetCredentials, held: Holding) -> Holding:
    """Call cognito-identity GetCredentialsForIdentity, for the kept identity if there is one."""
    more = {"CustomRoleArn": wanted.custom_role_arn} if wanted.custom_role_arn else {}
    identity, answer = await _identified(call, wanted, held, _GET_CREDENTIALS, more)
    given = member(_GET_CREDENTIALS, answer.members, "Credentials")
    credentials = Credentials(
        access_key_id=safe(member(_GET_CREDENTIALS, given, "AccessKeyId"), "Cognito's access key id"),
        secret_access_key=safe(member(_GET_CREDENTIALS, given, "SecretKey"), "Cognito's secret key"),
        session_token=safe(member(_GET_CREDENTIALS, given, "SessionToken"), "Cognito's session token"),
        expires_at=whole(member(_GET_CREDENTIALS, given, "Expiration")),
    )
    return replace(
        held, credentials=credentials, principal=identity, identity_id=identity, request_id=answer.request_id
    )


async def get_open_id_token(call: Call, wanted: CognitoGetOpenIdToken, held: Holding) -> Holding:
    """Call cognito-identity GetOpenIdToken. The answer names no expiry: it is the `exp` of the JWT."""
    identity, answer = await _identified(call, wanted, held, _GET_OPEN_ID_TOKEN, {})
    token = safe(member(_GET_OPEN_ID_TOKEN, answer.members, "Token"), "Cognito's token")
    access_token = Token(token, jwt_times(token)[1] or answer.asked_at + _LIFETIME)
    return replace(held, access_token=access_token, identity_id=identity, request_id=answer.request_id)


async def _identified(
    call: Call, wanted: _Cognito, held: Holding, operation: Operation, more: dict[str, str]
) -> tuple[str, Answer]:
    """Ask for the kept identity; for the one that the pool names, where there is none or it does not fit."""
    logins = {
        provider: sized(held.token_to_read(which).value, f"the token for {provider}", 1, 50000)
        for provider, which in wanted.logins.items()
    }

    async def ask(identity: str) -> tuple[str, Answer]:
        parameters = {"IdentityId": identity, "Logins": logins, **more}
        answer = await call.systems.aws.ask(operation, call.region, parameters)
        return answer.members.get("IdentityId", identity), answer

    async def get_id() -> str:
        account = {"AccountId": wanted.account_id} if wanted.account_id else {}
        parameters = {"IdentityPoolId": wanted.identity_pool_id, "Logins": logins, **account}
        answer = await call.systems.aws.ask(_GET_ID, call.region, parameters)
        return str(member(_GET_ID, answer.members, "IdentityId"))

    return await _with_kept(held.identity_id, ask, get_id)


async def _with_kept(
    kept: str,
    ask: Callable[[str], Awaitable[tuple[str, Answer]]],
    get_id: Callable[[], Awaitable[str]],
) -> tuple[str, Answer]:
    if not kept:
        return await ask(await get_id())
    try:
        return await ask(kept)
    except RefusedError as error:
        if error.code not in _OF_ANOTHER:
            raise
        identity = await get_id()
        if identity == kept:
            raise
    return await ask(identity)
