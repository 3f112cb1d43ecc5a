"""Specs with Cognito: those that are taken, and those that are refused with the sentence that says why."""

from typing import Any

from tests.support.dependencies import ASSUME_ROLE, REFRESH, ROLE
from tests.support.emulator.constants import POOL_ID
from tests.support.manifests.parts import assume, of_user

USER_POOL = "cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI"
_PROVIDER = "the name of a login provider has 1 to 128 printable characters"


def pool(operation: str = "cognitoGetCredentials", **changes: Any) -> dict[str, Any]:
    fields = {"identityPoolId": POOL_ID, "logins": {USER_POOL: "accessToken"}} | changes
    return {operation: {key: value for key, value in fields.items() if value is not None}}


def only(**changes: Any) -> dict[str, Any]:
    return {"exchanges": [pool(**changes)]}


GOOD: dict[str, dict[str, Any]] = {
    "a pool": only(),
    "a pool with all that can be said": only(
        accountId="111122223333",
        customRoleArn=ROLE,
        logins={f"p{n}.example": "accessToken" for n in range(10)},
        region="eu-west-1",
    ),
    "a provider with a long name": only(logins={"a" * 128: "accessToken"}),
    "an ID token for a pool": {
        "exchanges": [REFRESH, pool(logins={USER_POOL: "accessToken", "b.example": "idToken"})]
    },
    "a pool's token": {"exchanges": [pool("cognitoGetOpenIdToken")]},
    "a pool's basic flow": {"exchanges": [pool("cognitoGetOpenIdToken"), ASSUME_ROLE]},
    "a role after a pool": {"exchanges": [pool(), assume(durationSeconds=3600)]},
}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no pool": (only(identityPoolId=None), "identityPoolId"),
    "a pool by its name": (only(identityPoolId="customers"), "cognitoGetCredentials.identityPoolId"),
    "a pool with a long id": (only(identityPoolId=f"us-east-1:{'a' * 46}"), "identityPoolId"),
    "a pool without logins": (only(logins=None), "logins"),
    "a pool with no login": (only(logins={}), "cognitoGetCredentials.logins"),
    "eleven logins": (only(logins={f"p{n}": "accessToken" for n in range(11)}), "cognitoGetCredentials.logins"),
    "a login with a token in it": (only(logins={USER_POOL: "eyJhbGciOi"}), "cognitoGetCredentials.logins"),
    "a provider with a space": (only(logins={"a b": "accessToken"}), _PROVIDER),
    "a provider without a name": (only(logins={"": "accessToken"}), _PROVIDER),
    "an account with letters": (only(accountId="acme"), "cognitoGetCredentials.accountId"),
    "an account of 16 digits": (only(accountId="1" * 16), "cognitoGetCredentials.accountId"),
    "a custom role that is none": (only(customRoleArn="PoolConsumer"), "customRoleArn"),
    "a custom role for a token": (
        {"exchanges": [pool("cognitoGetOpenIdToken", customRoleArn=ROLE)]},
        "unknown field",
    ),
    "an ID token for a pool that nobody gives": (
        only(logins={USER_POOL: "accessToken", "b.example": "idToken"}),
        "an idToken needs an exchange before that may give one",
    ),
    "a pool without a token": (of_user(pool()), "token missing: give source.token"),
    "a role over an hour after a pool": (
        {"exchanges": [pool(), assume(durationSeconds=3601)]},
        "assumeRole after another role lasts at most 3600 s",
    ),
    "a user's session after a pool": ({"exchanges": [pool(), {"getSessionToken": {}}]}, "take the keys of an IAM"),
}
