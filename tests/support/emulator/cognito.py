"""Amazon Cognito identity pools: identities for logins at issuers, and credentials or tokens for them."""

import uuid
from typing import Any

import jwt

from tests.support.emulator.constants import COGNITO_PROVIDER, WEB_IDENTITY_ACTION
from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call, Service
from tests.support.emulator.state import Identity, IdentityPool, Principal
from tests.support.emulator.sts import start_session
from tests.support.emulator.tokens import validity

_OPEN_ID_SECONDS = 600
_CREDENTIALS_SECONDS = 3600


def get_id(call: Call) -> dict[str, Any]:
    """GetId: a login always has the same identity."""
    pool = _pool(call, call.params["IdentityPoolId"])
    if call.params.get("AccountId", pool.account) != pool.account:
        raise _not_authorized("Access to Identity is forbidden")
    logins = _verified_logins(call, pool)
    for identity in call.state.identities.values():
        if (identity.provider, identity.subject) in logins and identity.pool_id == pool.pool_id:
            return {"IdentityId": identity.identity_id}
    identity_id = f"{pool.pool_id.partition(':')[0]}:{uuid.uuid4()}"
    call.state.identities[identity_id] = Identity(identity_id, pool.pool_id, *logins[0])
    return {"IdentityId": identity_id}


def get_open_id_token(call: Call) -> dict[str, Any]:
    """GetOpenIdToken: a token for AssumeRoleWithWebIdentity, valid for ten minutes."""
    identity = _identity(call)
    claims = {
        "iss": f"https://{COGNITO_PROVIDER}",
        "sub": identity.identity_id,
        "aud": identity.pool_id,
        "amr": ["authenticated", identity.provider, f"{identity.provider}:{identity.subject}"],
        **validity(call.now, call.expiry(_OPEN_ID_SECONDS)),
    }
    token = call.state.cognito_key.sign(claims)
    call.state.record_secrets(token)
    return {"IdentityId": identity.identity_id, "Token": token}


def get_credentials_for_identity(call: Call) -> dict[str, Any]:
    """GetCredentialsForIdentity: an hour of the pool's role for authenticated identities."""
    identity = _identity(call)
    pool = _pool(call, identity.pool_id)
    arn = call.params.get("CustomRoleArn", pool.roles[0])
    if arn not in pool.roles:
        raise _not_authorized("CustomRoleArn is not among the roles of the token")
    role = call.state.roles.get(arn)
    context = {f"{COGNITO_PROVIDER}:aud": [pool.pool_id], f"{COGNITO_PROVIDER}:amr": ["authenticated"]}
    principals: Any = {"Federated": {COGNITO_PROVIDER}}
    if role is None or not role.trust_policy.allows(WEB_IDENTITY_ACTION, principals, context):
        message = "Invalid identity pool configuration. Check assigned IAM roles for this pool."
        raise AwsError("InvalidIdentityPoolConfigurationException", message)
    account, path = arn.split(":", 5)[4:]
    session = "CognitoIdentityCredentials"
    session_arn = f"arn:aws:sts::{account}:assumed-role/{path.rpartition('/')[2]}/{session}"
    principal = Principal(session_arn, f"{role.role_id}:{session}", arn)
    credentials = start_session(call, principal, _CREDENTIALS_SECONDS)
    credentials["SecretKey"] = credentials.pop("SecretAccessKey")
    return {"IdentityId": identity.identity_id, "Credentials": credentials}


def _pool(call: Call, pool_id: str) -> IdentityPool:
    if pool_id not in call.state.pools:
        raise AwsError("ResourceNotFoundException", f"IdentityPool '{pool_id}' not found.")
    return call.state.pools[pool_id]


def _identity(call: Call) -> Identity:
    identity = call.state.identities.get(call.params["IdentityId"])
    if identity is None:
        raise AwsError("ResourceNotFoundException", f"Identity '{call.params['IdentityId']}' not found.")
    if (identity.provider, identity.subject) not in _verified_logins(call, _pool(call, identity.pool_id)):
        raise _not_authorized(
            "Logins don't match. Please include at least one valid login for this identity or identity pool."
        )
    return identity


def _verified_logins(call: Call, pool: IdentityPool) -> list[tuple[str, str]]:
    """Verify the tokens of all logins and return each provider with its subject."""
    logins = call.params.get("Logins", {})
    if not logins:
        raise _not_authorized("Unauthenticated access is not supported for this identity pool.")
    return [(name, _verified_subject(call, pool, name, token)) for name, token in logins.items()]


def _verified_subject(call: Call, pool: IdentityPool, name: str, token: str) -> str:
    provider = call.state.oidc_providers.get(f"https://{name}")
    if provider is None or f"https://{name}" not in pool.issuers:
        raise _not_authorized("Token is not from a supported provider of this identity pool.")
    try:
        claims = provider.key.claims(token)
    except jwt.InvalidTokenError:
        raise _not_authorized("Invalid login token. Not a valid OpenId token.") from None
    if claims["iss"] != f"https://{name}" or claims["aud"] not in provider.audiences:
        raise _not_authorized("Invalid login token. Incorrect token audience.")
    if claims["exp"] <= call.now.timestamp():
        expired = f"{claims['exp']} < {int(call.now.timestamp())}"
        raise _not_authorized(f"Invalid login token. Token expired: {expired}")
    return str(claims["sub"])


def _not_authorized(message: str) -> AwsError:
    return AwsError("NotAuthorizedException", message)


SERVICE = Service(
    "cognito-identity",
    {"GetId": get_id, "GetOpenIdToken": get_open_id_token, "GetCredentialsForIdentity": get_credentials_for_identity},
)
