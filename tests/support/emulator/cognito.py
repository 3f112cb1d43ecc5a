"""Amazon Cognito identity pools: who signed in elsewhere gets an identity, and credentials or a token for it."""

import uuid
from typing import Any

import jwt

from tests.support.emulator.constants import COGNITO_PROVIDER, WEB_IDENTITY_ACTION
from tests.support.emulator.pools import Identity, Pool
from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call, Service
from tests.support.emulator.state import Principal
from tests.support.emulator.sts.session import start

_OPEN_ID_SECONDS = 600
_CREDENTIALS_SECONDS = 3600


def get_id(call: Call) -> dict[str, Any]:
    """Answer GetId: the same login has the same identity, for ever."""
    pool = _pool(call, call.params["IdentityPoolId"])
    if call.params.get("AccountId", pool.account) != pool.account:
        raise AwsError("NotAuthorizedException", "Access to Identity is forbidden")
    logins = _logins(call, pool)
    for identity in call.world.identities.values():
        if (identity.provider, identity.subject) in logins and identity.pool_id == pool.pool_id:
            return {"IdentityId": identity.identity_id}
    provider, subject = logins[0]
    new = Identity(f"{pool.pool_id.partition(':')[0]}:{uuid.uuid4()}", pool.pool_id, provider, subject)
    call.world.identities[new.identity_id] = new
    return {"IdentityId": new.identity_id}


def get_open_id_token(call: Call) -> dict[str, Any]:
    """Answer GetOpenIdToken: a token of ten minutes, for AssumeRoleWithWebIdentity."""
    identity = _identity(call)
    claims = {
        "iss": f"https://{COGNITO_PROVIDER}",
        "sub": identity.identity_id,
        "aud": identity.pool_id,
        "amr": ["authenticated", identity.provider, f"{identity.provider}:{identity.subject}"],
        "iat": int(call.now.timestamp()),
        "exp": int(call.expiry(_OPEN_ID_SECONDS).timestamp()),
    }
    token = call.world.cognito_key.sign(claims)
    call.world.remember(token)
    return {"IdentityId": identity.identity_id, "Token": token}


def get_credentials_for_identity(call: Call) -> dict[str, Any]:
    """Answer GetCredentialsForIdentity: an hour of the role that the pool has for who signed in."""
    identity = _identity(call)
    pool = _pool(call, identity.pool_id)
    arn = call.params.get("CustomRoleArn", pool.roles[0])
    if arn not in pool.roles:
        raise AwsError("NotAuthorizedException", "CustomRoleArn is not among the roles of the token")
    role, who = (
        call.world.roles.get(arn),
        {f"{COGNITO_PROVIDER}:aud": [pool.pool_id], f"{COGNITO_PROVIDER}:amr": ["authenticated"]},
    )
    if role is None or not role.trust_policy.allows(WEB_IDENTITY_ACTION, {"Federated": {COGNITO_PROVIDER}}, who):
        message = "Invalid identity pool configuration. Check assigned IAM roles for this pool."
        raise AwsError("InvalidIdentityPoolConfigurationException", message)
    account, path = arn.split(":", 5)[4:]
    name = f"arn:aws:sts::{account}:assumed-role/{path.rpartition('/')[2]}/CognitoIdentityCredentials"
    given = start(call, Principal(name, f"{role.role_id}:CognitoIdentityCredentials", arn), _CREDENTIALS_SECONDS)
    given["SecretKey"] = given.pop("SecretAccessKey")
    return {"IdentityId": identity.identity_id, "Credentials": given}


def _pool(call: Call, pool_id: str) -> Pool:
    if pool_id not in call.world.pools:
        raise AwsError("ResourceNotFoundException", f"IdentityPool '{pool_id}' not found.")
    return call.world.pools[pool_id]


def _identity(call: Call) -> Identity:
    identity = call.world.identities.get(call.params["IdentityId"])
    if identity is None:
        raise AwsError("ResourceNotFoundException", f"Identity '{call.params['IdentityId']}' not found.")
    logins = _logins(call, _pool(call, identity.pool_id))
    if (identity.provider, identity.subject) not in logins:
        message = "Logins don't match. Please include at least one valid login for this identity or identity pool."
        raise AwsError("NotAuthorizedException", message)
    return identity


def _logins(call: Call, pool: Pool) -> list[tuple[str, str]]:
    """Check each token, and tell whose login it is."""
    logins = call.params.get("Logins", {})
    if not logins:
        raise AwsError("NotAuthorizedException", "Unauthenticated access is not supported for this identity pool.")
    return [(name, _subject(call, pool, name, token)) for name, token in logins.items()]


def _subject(call: Call, pool: Pool, name: str, token: str) -> str:
    provider = call.world.oidc_providers.get(f"https://{name}")
    if provider is None or f"https://{name}" not in pool.issuers:
        raise AwsError("NotAuthorizedException", "Token is not from a supported provider of this identity pool.")
    try:
        claims = provider.key.claims(token)
    except jwt.InvalidTokenError:
        raise AwsError("NotAuthorizedException", "Invalid login token. Not a valid OpenId token.") from None
    if claims["iss"] != f"https://{name}" or claims["aud"] not in provider.audiences:
        raise AwsError("NotAuthorizedException", "Invalid login token. Incorrect token audience.")
    if claims["exp"] <= call.now.timestamp():
        message = f"Invalid login token. Token expired: {claims['exp']} < {int(call.now.timestamp())}"
        raise AwsError("NotAuthorizedException", message)
    return str(claims["sub"])


SERVICE = Service(
    "cognito-identity",
    {
        "GetId": get_id,
        "GetOpenIdToken": get_open_id_token,
        "GetCredentialsForIdentity": get_credentials_for_identity,
    },
)
