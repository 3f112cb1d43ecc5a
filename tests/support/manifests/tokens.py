"""Specs of the exchanges that give tokens: those that are taken, and those that are refused, each with why."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, CODE, REFRESH
from tests.support.manifests.parts import assume, of_user, refresh, secret_at

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TYPE = "urn:ietf:params:oauth:token-type:"
LICENSE = "arn:aws:license-manager::111122223333:license:l-0a1b2c3d4e5f60718293a4b5c6d7e8f9"
APPLICATION = CODE["identityCenterCreateToken"]["clientId"]
BOTH = {
    "source": {
        "token": {"secretKeyRef": {"name": "license", "key": "license_token"}},
        "credentials": {"secretRef": {"name": "base"}},
    }
}
ID_TOKEN = {"from": "idToken"}


def oauth(*more: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A client with a secret asks, by its own credentials."""
    asked = REFRESH["oauthToken"] | {"grantType": "client_credentials", "clientSecretFrom": secret_at("client")}
    given = {key: value for key, value in (asked | changes).items() if value is not None}
    return {"exchanges": [{"oauthToken": given}, *more]}


def alone(spec: dict[str, Any]) -> dict[str, Any]:
    """Nothing to start from."""
    return spec | {"source": {}}


def exchanged(**changes: Any) -> dict[str, Any]:
    return oauth(**({"grantType": EXCHANGE, "subjectTokenType": f"{TYPE}jwt"} | changes))


def center(*more: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Identity Center, by default with a code; None removes a field."""
    asked = CODE["identityCenterCreateToken"] | changes
    given = {key: value for key, value in asked.items() if value is not None}
    return {"exchanges": [{"identityCenterCreateToken": given}, *more]}


def of_center(grant: str, *more: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Identity Center with another grant, from a token and credentials."""
    return BOTH | center(*more, grantType=grant, codeFrom=None, redirectUri=None, **changes)


def roles(**changes: Any) -> dict[str, Any]:
    asked = {"roleName": "Reader", "accountId": "111122223333"} | changes
    return {"exchanges": [{"identityCenterGetRoleCredentials": asked}]}


def create(**changes: Any) -> dict[str, Any]:
    return of_user({"licenseManagerCreateToken": {"licenseArn": LICENSE} | changes})


_CODE_OF_USER = of_user(*center()["exchanges"])
_ONE = "only one exchange may consume its input"
_AUTHENTICATION = "clientAuthentication client_secret_basic and client_secret_post require clientSecretFrom"
_EXCHANGED = "subjectTokenType, requestedTokenType, actorTokenFrom and actorTokenType require grantType"
_EXTRA = "names of extraParameters must not be OAuth parameters or sound like secrets"
_NO_CLIENT = "clientId is required, except for token-exchange and jwt-bearer"
_NO_TOKEN = "token is missing: set source.token"
_NO_KEYS = "credentials are missing: set source.credentials"
_NO_ID_TOKEN = "idToken requires an earlier exchange that can return an ID token"
_SAME_SECRET = "the target must not be a Secret that the spec reads or stores a token in"
_FROM_CENTER = "from requires grantType jwt-bearer without assertionFrom, or token-exchange"

GOOD: dict[str, dict[str, Any]] = {
    "a client's own token, with no token to start from": alone(oauth()),
    "a client's own token and then a role": oauth(ASSUME_ROLE),
    "a client with a key": oauth(
        clientSecretFrom=None,
        clientKeyFrom=secret_at("key"),
        keyId="1",
        algorithm="ES256",
        clientAuthentication=None,
    ),
    "a client with a key, said twice": oauth(
        clientSecretFrom=None, clientKeyFrom=secret_at("key"), clientAuthentication="private_key_jwt"
    ),
    "a public client": refresh(clientAuthentication="none"),
    "an exchange with all that can be said": exchanged(
        requestedTokenType=f"{TYPE}jwt",
        actorTokenFrom=secret_at("actor"),
        actorTokenType=f"{TYPE}access_token",
        audience=["a b", "c"],
        resource=["https://api.example/x?y"],
        scope=["openid"],
        extraParameters={"tenant.id": "a b", "requested_token_use": "on_behalf_of"},
        caBundleFrom={"configMapKeyRef": {"name": "acme", "key": "ca.crt"}},
    ),
    "an exchange without a client": exchanged(clientId=None, clientSecretFrom=None),
    "an assertion without a client": oauth(grantType=BEARER, clientId=None, clientSecretFrom=None),
    "an assertion that is the ID token before": {
        "exchanges": [REFRESH, oauth(grantType=BEARER, **ID_TOKEN)["exchanges"][0]]
    },
    "a refresh after a role that gives no token": BOTH | {"exchanges": [assume(), REFRESH]},
    "a code": _CODE_OF_USER,
    "a code with all that can be said": BOTH
    | center(
        assume(),
        codeVerifierFrom=secret_at("sign-in", "verifier"),
        scope=["openid", "aws", "sts:identity_context"],
        region="eu-west-1",
    ),
    "a code after a role": of_user(assume(), *center()["exchanges"], assume()),
    "a refresh at Identity Center after a role": BOTH
    | {"exchanges": [assume(), of_center("refresh_token")["exchanges"][0]]},
    "an assertion that is the source": of_center(BEARER, assume()),
    "an assertion in a Secret of its own": of_user(
        *of_center(BEARER, assertionFrom=secret_at("jwt", "token"))["exchanges"]
    ),
    "an assertion that is an ID token of another issuer": BOTH
    | {"exchanges": [REFRESH, of_center(BEARER, **ID_TOKEN)["exchanges"][0]]},
    "an exchange at Identity Center": of_center(
        EXCHANGE, subjectTokenType=f"{TYPE}access_token", requestedTokenType=f"{TYPE}refresh_token"
    ),
    "a refresh token for the token of a service account, beside a code": BOTH
    | {
        "source": BOTH["source"] | {"token": {"serviceAccount": {"name": "app"}}},
        "exchanges": [
            *exchanged(requestedTokenType=f"{TYPE}refresh_token")["exchanges"],
            *center()["exchanges"],
        ],
    },
    "an ID token for a role": {
        "exchanges": [REFRESH, {"assumeRoleWithWebIdentity": ASSUME_ROLE["assumeRoleWithWebIdentity"] | ID_TOKEN}]
    },
    "credentials of a permission set": roles(),
    "credentials of a permission set after a code": of_user(*center()["exchanges"], *roles()["exchanges"]),
    "a new token of a license": create(),
    "a new token of a license with all that can be said": create(
        roleArns=["arn:aws:iam::111122223333:role/a"] * 2,
        expirationInDays=30,
        tokenProperties=["a b", "c", "d"],
        revokeSuperseded={"gracePeriod": "168h"},
        region="eu-west-1",
    ),
}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a client's own token without a proof": (oauth(clientSecretFrom=None), "grantType client_credentials requires"),
    "a client's own token without a client": (oauth(clientId=None), _NO_CLIENT),
    "a refresh without a client": (refresh(clientId=None), _NO_CLIENT),
    "an exchange with a secret and no client": (exchanged(clientId=None), _NO_CLIENT),
    "a client with a secret and a key": (
        oauth(clientKeyFrom=secret_at("key")),
        "clientSecretFrom and clientKeyFrom are mutually exclusive",
    ),
    "basic without a secret": (refresh(clientAuthentication="client_secret_basic"), _AUTHENTICATION),
    "a public client with a secret": (oauth(clientAuthentication="none"), _AUTHENTICATION),
    "a JWT of the client without a key": (oauth(clientAuthentication="private_key_jwt"), _AUTHENTICATION),
    "a key id without a key": (oauth(keyId="1"), "keyId and algorithm require clientKeyFrom"),
    "an algorithm without a key": (oauth(algorithm="ES256"), "keyId and algorithm require clientKeyFrom"),
    "an algorithm with a shared secret": (
        oauth(clientSecretFrom=None, clientKeyFrom=secret_at("key"), algorithm="HS256"),
        "oauthToken.algorithm",
    ),
    "no algorithm at all": (
        oauth(clientSecretFrom=None, clientKeyFrom=secret_at("key"), algorithm="none"),
        "oauthToken.algorithm",
    ),
    "an exchange of what is not said": (
        exchanged(subjectTokenType=None),
        "grantType token-exchange requires subjectTokenType",
    ),
    "a subject for a client's own token": (oauth(subjectTokenType=f"{TYPE}jwt"), _EXCHANGED),
    "an actor for an assertion": (
        oauth(grantType=BEARER, actorTokenFrom=secret_at("a"), actorTokenType=f"{TYPE}jwt"),
        _EXCHANGED,
    ),
    "an actor that is not said what": (
        exchanged(actorTokenFrom=secret_at("actor")),
        "actorTokenFrom and actorTokenType must be set together",
    ),
    "a token type that is no URI": (exchanged(subjectTokenType="jwt"), "oauthToken.subjectTokenType"),
    "a resource that is no URI": (oauth(resource=["api"]), "oauthToken.resource[0]"),
    "a resource with a fragment": (oauth(resource=["https://api.example/#a"]), "oauthToken.resource[0]"),
    "17 audiences": (oauth(audience=["a"] * 17), "oauthToken.audience"),
    "no audience in the list": (oauth(audience=[]), "oauthToken.audience"),
    "a scope in the extra parameters": (oauth(extraParameters={"scope": "a"}), _EXTRA),
    "another grant in the extra parameters": (oauth(extraParameters={"grant_type": "password"}), _EXTRA),
    "a password in the extra parameters": (oauth(extraParameters={"user_password": "a"}), _EXTRA),
    "an API key in the extra parameters": (oauth(extraParameters={"api_key": "a"}), _EXTRA),
    "an extra parameter with a space": (oauth(extraParameters={"a b": "c"}), _EXTRA),
    "an extra parameter with a newline": (oauth(extraParameters={"a": "b\n"}), "oauthToken.extraParameters"),
    "17 extra parameters": (
        oauth(extraParameters={f"p{n}": "x" for n in range(17)}),
        "oauthToken.extraParameters",
    ),
    "a CA bundle in two places": (
        oauth(
            caBundleFrom={
                "secretKeyRef": {"name": "ca", "key": "a"},
                "configMapKeyRef": {"name": "ca", "key": "a"},
            }
        ),
        "exactly one of secretKeyRef, configMapKeyRef must be set",
    ),
    "a client's secret in a ConfigMap": (
        oauth(clientSecretFrom={"configMapKeyRef": {"name": "a", "key": "b"}}),
        "configMapKeyRef",
    ),
    "a target that is the client's key": (
        oauth(clientSecretFrom=None, clientKeyFrom=secret_at("acme")),
        _SAME_SECRET,
    ),
    "a token to choose for a client's own": (oauth(**ID_TOKEN), "from requires grantType token-exchange or jwt-bearer"),
    "a token that is none of the two": (exchanged(**{"from": "refreshToken"}), "oauthToken.from"),
    "an ID token that nobody gives": (exchanged(**ID_TOKEN), _NO_ID_TOKEN),
    "an ID token of License Manager": (
        {"exchanges": [ACCESS_TOKEN, exchanged(**ID_TOKEN)["exchanges"][0]]},
        _NO_ID_TOKEN,
    ),
    "an ID token for a role that nobody gives": (
        {
            "exchanges": [
                ACCESS_TOKEN,
                {"assumeRoleWithWebIdentity": ASSUME_ROLE["assumeRoleWithWebIdentity"] | ID_TOKEN},
            ]
        },
        _NO_ID_TOKEN,
    ),
    "nothing to start from, and an exchange with AWS": ({"source": {}, "exchanges": [ACCESS_TOKEN]}, _NO_TOKEN),
    "nothing to start from, and a role": ({"source": {}, "exchanges": [assume()]}, _NO_KEYS),
    "nothing to exchange": (alone(exchanged()), _NO_TOKEN),
    "no assertion": (alone(oauth(grantType=BEARER)), _NO_TOKEN),
    "a code without credentials": (center(), _NO_KEYS),
    "a code that is not there": (BOTH | center(codeFrom=None), "grantType authorization_code requires codeFrom"),
    "a code sent nowhere": (BOTH | center(redirectUri=None), "grantType authorization_code requires codeFrom"),
    "a code in the manifest": (BOTH | center(code="x"), "unknown field"),
    "a code for an assertion": (
        of_center(BEARER) | center(grantType=BEARER),
        "codeFrom, redirectUri and codeVerifierFrom require grantType authorization_code",
    ),
    "an assertion for a code": (
        BOTH | center(assertionFrom=secret_at("jwt")),
        "assertionFrom requires grantType urn:ietf:params:oauth:grant-type:jwt-bearer",
    ),
    "a subject for a refresh": (
        of_center("refresh_token", requestedTokenType=f"{TYPE}access_token"),
        "subjectTokenType and requestedTokenType require grantType urn:ietf:params:oauth:grant-type:token-exchange",
    ),
    "an ID token of Identity Center to exchange": (
        of_center(EXCHANGE, subjectTokenType=f"{TYPE}id_token"),
        "identityCenterCreateToken.subjectTokenType",
    ),
    "a token to choose for a code": (BOTH | center(**{"from": "accessToken"}), _FROM_CENTER),
    "an application by its name": (
        BOTH | center(clientId="my-application-of-identity-center"),
        "identityCenterCreateToken.clientId",
    ),
    "an unknown grant of Identity Center": (
        BOTH | center(grantType="client_credentials"),
        "identityCenterCreateToken.grantType",
    ),
    "no scope in the list": (BOTH | center(scope=[]), "identityCenterCreateToken.scope"),
    "a code without a region": (BOTH | center() | {"region": None}, "region is missing"),
    "a refresh at Identity Center without a token": (
        of_user(*of_center("refresh_token")["exchanges"]),
        _NO_TOKEN,
    ),
    "a refresh at Identity Center after another token": (
        BOTH | {"exchanges": [ACCESS_TOKEN, of_center("refresh_token")["exchanges"][0]]},
        "grantType refresh_token uses source.token",
    ),
    "two codes": (of_user(*center()["exchanges"], *center()["exchanges"]), _ONE),
    "an assertion that is the source, and a code": (
        BOTH | {"exchanges": [*of_center(BEARER)["exchanges"], *center()["exchanges"]]},
        _ONE,
    ),
    "a subject token for a refresh token, and a code": (
        BOTH
        | {
            "exchanges": [
                *exchanged(requestedTokenType=f"{TYPE}refresh_token")["exchanges"],
                *center()["exchanges"],
            ]
        },
        _ONE,
    ),
    "a refresh and a code": (BOTH | {"exchanges": [REFRESH, *center()["exchanges"]]}, _ONE),
    "a target that is the code's Secret": (_CODE_OF_USER | {"target": {"secretName": "sign-in"}}, _SAME_SECRET),
    "a target where the code's token is kept": (
        _CODE_OF_USER | {"target": {"secretName": "sign-in-keyturn"}},
        _SAME_SECRET,
    ),
    "a target where the assertion's token is kept": (
        of_user(*of_center(BEARER, assertionFrom=secret_at("jwt"))["exchanges"])
        | {"target": {"secretName": "jwt-keyturn"}},
        _SAME_SECRET,
    ),
    "a role for two hours after a permission set": (
        roles() | {"exchanges": [*roles()["exchanges"], assume(durationSeconds=7200)]},
        "assumeRole after another role (role chaining) is limited to 3600 seconds",
    ),
    "a permission set without a token": (of_user(*roles()["exchanges"]), _NO_TOKEN),
    "a permission set with a slash": (roles(roleName="a/b"), "identityCenterGetRoleCredentials.roleName"),
    "an account with dashes": (roles(accountId="1111-2222-33"), "identityCenterGetRoleCredentials.accountId"),
    "an account of 13 digits": (roles(accountId="1" * 13), "identityCenterGetRoleCredentials.accountId"),
    "a new token without credentials": ({"exchanges": create()["exchanges"]}, _NO_KEYS),
    "a new token of no license": (of_user({"licenseManagerCreateToken": {}}), "licenseArn"),
    "a new token of a license by its name": (create(licenseArn="my license"), "licenseArn"),
    "a new token with four properties": (create(tokenProperties=list("abcd")), "tokenProperties"),
    "a new token for no time": (create(expirationInDays=0), "expirationInDays"),
    "a new token for a role by its name": (create(roleArns=["Admin"]), "roleArns[0]"),
    "a revocation without a time": (create(revokeSuperseded={}), "gracePeriod"),
    "a revocation after a week": (create(revokeSuperseded={"gracePeriod": "1w"}), "revokeSuperseded.gracePeriod"),
    "a new token with a ClientToken": (create(clientToken="x"), "unknown field"),
}
