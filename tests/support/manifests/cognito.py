"""Specs with Cognito."""

from typing import Any

from tests.support.dependencies import ASSUME_ROLE, REFRESH, ROLE
from tests.support.emulator.constants import POOL_ID
from tests.support.manifests.parts import assume, with_user_keys

USER_POOL = "cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI"


def pool(exchange: str = "cognitoGetCredentials", **changes: Any) -> dict[str, Any]:
    fields = {"identityPoolId": POOL_ID, "logins": {USER_POOL: "accessToken"}} | changes
    return {exchange: {key: value for key, value in fields.items() if value is not None}}


def identity_pool(**changes: Any) -> dict[str, Any]:
    return {"exchanges": [pool(**changes)]}


GOOD: dict[str, dict[str, Any]] = {
    "identity pool": identity_pool(),
    "identity pool with all fields": identity_pool(
        accountId="111122223333",
        customRoleArn=ROLE,
        logins={f"p{n}.example": "accessToken" for n in range(10)},
        region="eu-west-1",
    ),
    "provider with a long name": identity_pool(logins={"a" * 128: "accessToken"}),
    "ID token for an identity pool": {
        "exchanges": [REFRESH, pool(logins={USER_POOL: "accessToken", "b.example": "idToken"})]
    },
    "OpenID token of an identity pool": {"exchanges": [pool("cognitoGetOpenIdToken")]},
    "basic flow of an identity pool": {"exchanges": [pool("cognitoGetOpenIdToken"), ASSUME_ROLE]},
    "role after an identity pool": {"exchanges": [pool(), assume(durationSeconds=3600)]},
}

BAD: dict[str, dict[str, dict[str, Any]]] = {
    "identityPoolId": {
        "no identityPoolId": identity_pool(identityPoolId=None),
        "identityPoolId of 56 characters": identity_pool(identityPoolId=f"us-east-1:{'a' * 46}"),
    },
    "cognitoGetCredentials.identityPoolId": {
        "identityPoolId without a region": identity_pool(identityPoolId="customers")
    },
    "logins": {"identity pool without logins": identity_pool(logins=None)},
    "cognitoGetCredentials.logins": {
        "empty logins": identity_pool(logins={}),
        "token in logins": identity_pool(logins={USER_POOL: "eyJhbGciOi"}),
    },
    "login provider names must have 1 to 128 printable ASCII characters": {
        "provider with a space": identity_pool(logins={"a b": "accessToken"}),
        "provider with an empty name": identity_pool(logins={"": "accessToken"}),
    },
    "cognitoGetCredentials.accountId": {
        "account with letters": identity_pool(accountId="acme"),
        "account of 16 digits": identity_pool(accountId="1" * 16),
    },
    "customRoleArn": {"customRoleArn without an ARN": identity_pool(customRoleArn="PoolConsumer")},
    "unknown field": {
        "customRoleArn for an OpenID token": {"exchanges": [pool("cognitoGetOpenIdToken", customRoleArn=ROLE)]}
    },
    "idToken requires one of these exchanges before it": {
        "idToken in logins without an ID token": identity_pool(
            logins={USER_POOL: "accessToken", "b.example": "idToken"}
        )
    },
    "token is missing: set source.token": {"identity pool without a token": with_user_keys(pool())},
    "assumeRole after another role (role chaining) is limited to 3600 seconds": {
        "role over an hour after an identity pool": {"exchanges": [pool(), assume(durationSeconds=3601)]}
    },
    "require the access keys of an IAM user": {
        "getSessionToken after an identity pool": {"exchanges": [pool(), {"getSessionToken": {}}]}
    },
}
