"""Specs with Cognito."""

from typing import Any

from tests.support.dependencies import ASSUME_ROLE, REFRESH, ROLE
from tests.support.emulator.constants import POOL_ID
from tests.support.manifests.parts import assume, of_user

USER_POOL = "cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI"


def pool(exchange: str = "cognitoGetCredentials", **changes: Any) -> dict[str, Any]:
    fields = {"identityPoolId": POOL_ID, "logins": {USER_POOL: "accessToken"}} | changes
    return {exchange: {key: value for key, value in fields.items() if value is not None}}


def only(**changes: Any) -> dict[str, Any]:
    return {"exchanges": [pool(**changes)]}


GOOD: dict[str, dict[str, Any]] = {
    "identity pool": only(),
    "identity pool with all fields": only(
        accountId="111122223333",
        customRoleArn=ROLE,
        logins={f"p{n}.example": "accessToken" for n in range(10)},
        region="eu-west-1",
    ),
    "provider with a long name": only(logins={"a" * 128: "accessToken"}),
    "ID token for an identity pool": {
        "exchanges": [REFRESH, pool(logins={USER_POOL: "accessToken", "b.example": "idToken"})]
    },
    "OpenID token of an identity pool": {"exchanges": [pool("cognitoGetOpenIdToken")]},
    "basic flow of an identity pool": {"exchanges": [pool("cognitoGetOpenIdToken"), ASSUME_ROLE]},
    "role after an identity pool": {"exchanges": [pool(), assume(durationSeconds=3600)]},
}

BAD: dict[str, dict[str, dict[str, Any]]] = {
    "identityPoolId": {
        "no identityPoolId": only(identityPoolId=None),
        "identityPoolId of 56 characters": only(identityPoolId=f"us-east-1:{'a' * 46}"),
    },
    "cognitoGetCredentials.identityPoolId": {"identityPoolId without a region": only(identityPoolId="customers")},
    "logins": {"identity pool without logins": only(logins=None)},
    "cognitoGetCredentials.logins": {
        "empty logins": only(logins={}),
        "token in logins": only(logins={USER_POOL: "eyJhbGciOi"}),
    },
    "login provider names must have 1 to 128 printable ASCII characters": {
        "provider with a space": only(logins={"a b": "accessToken"}),
        "provider with an empty name": only(logins={"": "accessToken"}),
    },
    "cognitoGetCredentials.accountId": {
        "account with letters": only(accountId="acme"),
        "account of 16 digits": only(accountId="1" * 16),
    },
    "customRoleArn": {"customRoleArn without an ARN": only(customRoleArn="PoolConsumer")},
    "unknown field": {
        "customRoleArn for an OpenID token": {"exchanges": [pool("cognitoGetOpenIdToken", customRoleArn=ROLE)]}
    },
    "idToken requires one of these exchanges before it": {
        "idToken in logins without an ID token": only(logins={USER_POOL: "accessToken", "b.example": "idToken"})
    },
    "token is missing: set source.token": {"identity pool without a token": of_user(pool())},
    "assumeRole after another role (role chaining) is limited to 3600 seconds": {
        "role over an hour after an identity pool": {"exchanges": [pool(), assume(durationSeconds=3601)]}
    },
    "require the access keys of an IAM user": {
        "getSessionToken after an identity pool": {"exchanges": [pool(), {"getSessionToken": {}}]}
    },
}
