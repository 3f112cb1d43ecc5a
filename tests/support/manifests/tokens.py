"""Specs with exchanges that produce tokens."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, CODE, REFRESH
from tests.support.manifests.parts import assume, refresh, secret_at, with_user_keys

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TYPE = "urn:ietf:params:oauth:token-type:"
LICENSE = "arn:aws:license-manager::111122223333:license:l-0a1b2c3d4e5f60718293a4b5c6d7e8f9"
APPLICATION = CODE["identityCenterCreateToken"]["clientId"]
TOKEN_AND_KEYS = {
    "source": {
        "token": {"secretKeyRef": {"name": "license", "key": "license_token"}},
        "credentials": {"secretRef": {"name": "base"}},
    }
}
ID_TOKEN = {"from": "idToken"}


def oauth(*more: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The client_credentials grant with a client secret."""
    fields = REFRESH["oauthToken"] | {"grantType": "client_credentials", "clientSecretFrom": secret_at("client")}
    step = {"oauthToken": {key: value for key, value in (fields | changes).items() if value is not None}}
    return {"exchanges": [step, *more]}


def with_empty_source(spec: dict[str, Any]) -> dict[str, Any]:
    return spec | {"source": {}}


def token_exchange(**changes: Any) -> dict[str, Any]:
    return oauth(**({"grantType": EXCHANGE, "subjectTokenType": f"{TYPE}jwt"} | changes))


def center(*more: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Identity Center, by default with an authorization code; None removes a field."""
    fields = CODE["identityCenterCreateToken"] | changes
    step = {"identityCenterCreateToken": {key: value for key, value in fields.items() if value is not None}}
    return {"exchanges": [step, *more]}


def center_grant(grant: str, *more: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Identity Center with another grant, a source token and credentials."""
    return TOKEN_AND_KEYS | center(*more, grantType=grant, codeFrom=None, redirectUri=None, **changes)


def roles(**changes: Any) -> dict[str, Any]:
    fields = {"roleName": "Reader", "accountId": "111122223333"} | changes
    return {"exchanges": [{"identityCenterGetRoleCredentials": fields}]}


def create(**changes: Any) -> dict[str, Any]:
    return with_user_keys({"licenseManagerCreateToken": {"licenseArn": LICENSE} | changes})


_CODE_OF_USER = with_user_keys(*center()["exchanges"])

GOOD: dict[str, dict[str, Any]] = {
    "client_credentials grant with an empty source": with_empty_source(oauth()),
    "client_credentials grant without a source": oauth() | {"source": None},
    "client_credentials grant, then a role": oauth(ASSUME_ROLE),
    "public client": refresh(clientAuthentication="none"),
    "token-exchange grant with all fields": token_exchange(
        requestedTokenType=f"{TYPE}jwt",
        actorTokenFrom=secret_at("actor"),
        actorTokenType=f"{TYPE}access_token",
        audience=["a b", "c"],
        resource=["https://api.example/x?y"],
        scope=["openid"],
        extraParameters={"tenant.id": "a b", "requested_token_use": "on_behalf_of"},
        caBundleFrom={"configMapKeyRef": {"name": "acme", "key": "ca.crt"}},
    ),
    "shortest assumed lifetime": oauth(assumedLifetime="60s"),
    "longest assumed lifetime": oauth(assumedLifetime="8784h"),
    "token-exchange grant without clientId": token_exchange(clientId=None, clientSecretFrom=None),
    "jwt-bearer grant without clientId": oauth(grantType=BEARER, clientId=None, clientSecretFrom=None),
    "jwt-bearer grant with an earlier ID token": {
        "exchanges": [REFRESH, oauth(grantType=BEARER, **ID_TOKEN)["exchanges"][0]]
    },
    "refresh_token grant after a role": TOKEN_AND_KEYS | {"exchanges": [assume(), REFRESH]},
    "authorization code": _CODE_OF_USER,
    "authorization code with all fields": TOKEN_AND_KEYS
    | center(
        assume(),
        codeVerifierFrom=secret_at("sign-in", "verifier"),
        scope=["openid", "aws", "sts:identity_context"],
        region="eu-west-1",
    ),
    "authorization code after a role": with_user_keys(assume(), *center()["exchanges"], assume()),
    "Identity Center: refresh_token grant after a role": TOKEN_AND_KEYS
    | {"exchanges": [assume(), center_grant("refresh_token")["exchanges"][0]]},
    "source token as assertion": center_grant(BEARER, assume()),
    "assertionFrom": with_user_keys(*center_grant(BEARER, assertionFrom=secret_at("jwt", "token"))["exchanges"]),
    "ID token of another issuer as assertion": TOKEN_AND_KEYS
    | {"exchanges": [REFRESH, center_grant(BEARER, **ID_TOKEN)["exchanges"][0]]},
    "Identity Center: token-exchange grant": center_grant(
        EXCHANGE, subjectTokenType=f"{TYPE}access_token", requestedTokenType=f"{TYPE}refresh_token"
    ),
    "refresh token for a ServiceAccount token, and an authorization code": TOKEN_AND_KEYS
    | {
        "source": TOKEN_AND_KEYS["source"] | {"token": {"serviceAccount": {"name": "app"}}},
        "exchanges": [
            *token_exchange(requestedTokenType=f"{TYPE}refresh_token")["exchanges"],
            *center()["exchanges"],
        ],
    },
    "ID token for a role": {
        "exchanges": [REFRESH, {"assumeRoleWithWebIdentity": ASSUME_ROLE["assumeRoleWithWebIdentity"] | ID_TOKEN}]
    },
    "permission set": roles(),
    "permission set after an authorization code": with_user_keys(*center()["exchanges"], *roles()["exchanges"]),
    "License Manager: CreateToken": create(),
    "License Manager: CreateToken with all fields": create(
        roleArns=["arn:aws:iam::111122223333:role/a"] * 2,
        expirationInDays=30,
        tokenProperties=["a b", "c", "d"],
        revokeSuperseded={"gracePeriod": "168h"},
        region="eu-west-1",
    ),
}

BAD: dict[str, dict[str, dict[str, Any]]] = {
    "codeFrom.secretKeyRef.name": {
        "authorization code in a Secret with a name of 246 characters": with_user_keys(
            *center(codeFrom=secret_at("a" * 246))["exchanges"]
        )
    },
    "assumedLifetime must be from 1m to 8784h": {
        "assumed lifetime of less than a minute": oauth(assumedLifetime="59s"),
        "assumed lifetime of more than 366 days": oauth(assumedLifetime="8784h1s"),
    },
    "oauthToken.assumedLifetime": {
        "assumed lifetime without a unit": oauth(assumedLifetime="3600"),
        "empty assumed lifetime": oauth(assumedLifetime=""),
    },
    "grantType token-exchange requires subjectTokenType": {
        "token-exchange grant without subjectTokenType": token_exchange(subjectTokenType=None)
    },
    "subjectTokenType, requestedTokenType, actorTokenFrom and actorTokenType require grantType": {
        "subjectTokenType for client_credentials": oauth(subjectTokenType=f"{TYPE}jwt"),
        "actor token for jwt-bearer": oauth(
            grantType=BEARER, actorTokenFrom=secret_at("a"), actorTokenType=f"{TYPE}jwt"
        ),
    },
    "actorTokenFrom and actorTokenType must be set together": {
        "actor token without a type": token_exchange(actorTokenFrom=secret_at("actor"))
    },
    "oauthToken.subjectTokenType": {"token type that is not a URI": token_exchange(subjectTokenType="jwt")},
    "oauthToken.resource[0]": {
        "resource that is not a URI": oauth(resource=["api"]),
        "resource with a fragment": oauth(resource=["https://api.example/#a"]),
    },
    "names of extraParameters must not be OAuth parameters or contain words such as secret and password": {
        "scope in the extra parameters": oauth(extraParameters={"scope": "a"}),
        "grant type in the extra parameters": oauth(extraParameters={"grant_type": "password"}),
        "password in the extra parameters": oauth(extraParameters={"user_password": "a"}),
        "API key in the extra parameters": oauth(extraParameters={"api_key": "a"}),
        "extra parameter with a space": oauth(extraParameters={"a b": "c"}),
    },
    "oauthToken.extraParameters": {"extra parameter with a newline": oauth(extraParameters={"a": "b\n"})},
    "exactly one of secretKeyRef, configMapKeyRef must be set": {
        "CA bundle from two sources": oauth(
            caBundleFrom={
                "secretKeyRef": {"name": "ca", "key": "a"},
                "configMapKeyRef": {"name": "ca", "key": "a"},
            }
        )
    },
    "configMapKeyRef": {
        "client secret in a ConfigMap": oauth(clientSecretFrom={"configMapKeyRef": {"name": "a", "key": "b"}})
    },
    "the target must not be a Secret that the spec reads or stores a token in": {
        "Secret of the authorization code as the target": _CODE_OF_USER | {"target": {"secretName": "sign-in"}},
        "token Secret of the authorization code as the target": _CODE_OF_USER
        | {"target": {"secretName": "sign-in-keyturn"}},
        "token Secret of the assertion as the target": with_user_keys(
            *center_grant(BEARER, assertionFrom=secret_at("jwt"))["exchanges"]
        )
        | {"target": {"secretName": "jwt-keyturn"}},
    },
    "from requires grantType token-exchange or jwt-bearer": {"from for client_credentials": oauth(**ID_TOKEN)},
    "oauthToken.from": {"from with an unknown token": token_exchange(**{"from": "refreshToken"})},
    "idToken requires one of these exchanges before it": {
        "idToken without an earlier exchange": token_exchange(**ID_TOKEN),
        "idToken after License Manager": {"exchanges": [ACCESS_TOKEN, token_exchange(**ID_TOKEN)["exchanges"][0]]},
        "idToken for a role without an ID token": {
            "exchanges": [
                ACCESS_TOKEN,
                {"assumeRoleWithWebIdentity": ASSUME_ROLE["assumeRoleWithWebIdentity"] | ID_TOKEN},
            ]
        },
    },
    "token is missing: set source.token": {
        "License Manager with an empty source": {"source": {}, "exchanges": [ACCESS_TOKEN]},
        "token-exchange grant with an empty source": with_empty_source(token_exchange()),
        "jwt-bearer grant with an empty source": with_empty_source(oauth(grantType=BEARER)),
        "Identity Center: refresh_token grant without a token": with_user_keys(
            *center_grant("refresh_token")["exchanges"]
        ),
        "permission set without a token": with_user_keys(*roles()["exchanges"]),
    },
    "credentials are missing: set source.credentials": {
        "role with an empty source": {"source": {}, "exchanges": [assume()]},
        "authorization code without credentials": center(),
        "CreateToken without credentials": {"exchanges": create()["exchanges"]},
    },
    "grantType authorization_code requires codeFrom": {
        "authorization_code grant without codeFrom": TOKEN_AND_KEYS | center(codeFrom=None),
        "authorization_code grant without redirectUri": TOKEN_AND_KEYS | center(redirectUri=None),
    },
    "unknown field": {
        "authorization code in the manifest": TOKEN_AND_KEYS | center(code="x"),
        "CreateToken with a client token": create(clientToken="x"),
    },
    "codeFrom, redirectUri and codeVerifierFrom require grantType authorization_code": {
        "codeFrom for jwt-bearer": center_grant(BEARER) | center(grantType=BEARER)
    },
    "assertionFrom requires grantType urn:ietf:params:oauth:grant-type:jwt-bearer": {
        "assertionFrom for authorization_code": TOKEN_AND_KEYS | center(assertionFrom=secret_at("jwt"))
    },
    "subjectTokenType and requestedTokenType require grantType urn:ietf:params:oauth:grant-type:token-exchange": {
        "requestedTokenType for refresh_token": center_grant("refresh_token", requestedTokenType=f"{TYPE}access_token")
    },
    "identityCenterCreateToken.subjectTokenType": {
        "Identity Center: subjectTokenType id_token": center_grant(EXCHANGE, subjectTokenType=f"{TYPE}id_token")
    },
    "from requires grantType jwt-bearer without assertionFrom, or token-exchange": {
        "from for authorization_code": TOKEN_AND_KEYS | center(**{"from": "accessToken"})
    },
    "must be the ARN of a customer managed application, such as arn:aws:sso::": {
        "client ID of a public client, as `aws sso login` stores it": TOKEN_AND_KEYS | center(clientId="hG3Xq9kLm2"),
    },
    "identityCenterCreateToken.grantType": {
        "Identity Center: client_credentials grant": TOKEN_AND_KEYS | center(grantType="client_credentials")
    },
    "region is missing": {"authorization code without a region": TOKEN_AND_KEYS | center() | {"region": None}},
    "grantType refresh_token sends source.token": {
        "Identity Center: refresh_token grant after a token": TOKEN_AND_KEYS
        | {"exchanges": [ACCESS_TOKEN, center_grant("refresh_token")["exchanges"][0]]}
    },
    "only one exchange may consume its input": {
        "two authorization codes": with_user_keys(*center()["exchanges"], *center()["exchanges"]),
        "source token as assertion, and an authorization code": TOKEN_AND_KEYS
        | {"exchanges": [*center_grant(BEARER)["exchanges"], *center()["exchanges"]]},
        "refresh token for the source token, and an authorization code": TOKEN_AND_KEYS
        | {
            "exchanges": [
                *token_exchange(requestedTokenType=f"{TYPE}refresh_token")["exchanges"],
                *center()["exchanges"],
            ]
        },
        "refresh_token grant and an authorization code": TOKEN_AND_KEYS
        | {"exchanges": [REFRESH, *center()["exchanges"]]},
    },
    "assumeRole after another role (role chaining) is limited to 3600 seconds": {
        "role for two hours after a permission set": roles()
        | {"exchanges": [*roles()["exchanges"], assume(durationSeconds=7200)]}
    },
    "identityCenterGetRoleCredentials.roleName": {"permission set with a slash": roles(roleName="a/b")},
    "identityCenterGetRoleCredentials.accountId": {
        "account with dashes": roles(accountId="1111-2222-33"),
        "account of 13 digits": roles(accountId="1" * 13),
    },
    "licenseArn": {
        "CreateToken without a license": with_user_keys({"licenseManagerCreateToken": {}}),
        "licenseArn that is not an ARN": create(licenseArn="my license"),
    },
    "expirationInDays": {"expirationInDays 0": create(expirationInDays=0)},
    "roleArns[0]": {"roleArns with a name": create(roleArns=["Admin"])},
    "gracePeriod": {"revokeSuperseded without gracePeriod": create(revokeSuperseded={})},
    "revokeSuperseded.gracePeriod": {"gracePeriod in weeks": create(revokeSuperseded={"gracePeriod": "1w"})},
}
