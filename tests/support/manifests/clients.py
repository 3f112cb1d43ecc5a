"""Specs with the ways in which OAuth clients authenticate."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, REFRESH
from tests.support.manifests.parts import refresh, secret_at
from tests.support.manifests.tokens import BEARER, oauth, token_exchange, with_empty_source

ACCOUNT: dict[str, Any] = {"serviceAccount": {"name": "app", "audiences": ["https://issuer.example/"]}}
PUBLIC: dict[str, Any] = {"clientId": None, "clientSecretFrom": None}


def with_key(**changes: Any) -> dict[str, Any]:
    """The client_credentials grant with a private key."""
    return oauth(**({"clientSecretFrom": None, "clientKeyFrom": secret_at("key", "tls.key")} | changes))


def with_assertion(source: dict[str, Any] = ACCOUNT, *before: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The client_credentials grant with the JWT of another issuer, and exchanges before it."""
    [step] = oauth(**({"clientSecretFrom": None, "clientAssertionFrom": source} | changes))["exchanges"]
    return {"exchanges": [*before, step]}


def assertion(**changes: Any) -> dict[str, Any]:
    return with_key(clientAssertion=changes)


def pipeline(choice: str, *before: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return with_assertion({"pipeline": choice}, *before, **changes)


GOOD: dict[str, dict[str, Any]] = {
    "client with a private key": with_key(keyId="1", algorithm="ES256", clientAuthentication=None),
    "client with a private key and clientAuthentication": with_key(clientAuthentication="private_key_jwt"),
    "client assertion with all fields": with_key(
        clientCertificateFrom=secret_at("key", "tls.crt"),
        clientAssertion={
            "audience": "https://issuer.example/",
            "claims": {"https://tenant.example/id": "a b"},
            "integerClaims": {"token_exp": 2592000, "zero": 0},
            "timeClaims": ["nbf"],
            "headers": {"typ": "client-authentication+jwt", "jku": "https://jwks.example/", "x5t": "abc"},
            "certificateHeaders": ["x5t#S256", "x5c"],
        },
    ),
    "empty client assertion": assertion(),
    "client with a ServiceAccount": with_empty_source(with_assertion()),
    "client with a ServiceAccount and all fields": with_assertion(
        {"serviceAccount": {"name": "app", "audiences": ["a", "b"], "expirationSeconds": 86400}},
        clientAuthentication="private_key_jwt",
    ),
    "client with a ServiceAccount and no clientId": with_assertion(clientId=None),
    "client with the JWT of a Secret": with_assertion(secret_at("jwt")),
    "client with an earlier access token": pipeline("accessToken", ACCESS_TOKEN),
    "client with an earlier ID token": pipeline("idToken", REFRESH),
    "refresh_token grant of a client with a ServiceAccount": refresh(clientId=None, clientAssertionFrom=ACCOUNT),
    "refresh_token grant of a client with an earlier access token": pipeline(
        "accessToken", *with_assertion()["exchanges"], grantType="refresh_token"
    ),
    "token-exchange grant of a client with a ServiceAccount": token_exchange(**PUBLIC, clientAssertionFrom=ACCOUNT),
    "jwt-bearer grant of a client with a ServiceAccount": with_assertion(grantType=BEARER),
}

BAD: dict[str, dict[str, dict[str, Any]]] = {
    "grantType client_credentials requires one of clientSecretFrom, clientKeyFrom, clientAssertionFrom": {
        "client_credentials grant without a secret or key": oauth(clientSecretFrom=None)
    },
    "clientId is required, except with clientAssertionFrom, and for token-exchange and jwt-bearer": {
        "client_credentials grant without clientId": oauth(clientId=None),
        "client with a private key and no clientId": with_key(clientId=None),
        "refresh_token grant without clientId": refresh(clientId=None),
        "token-exchange grant with a secret but no clientId": token_exchange(clientId=None),
    },
    "clientSecretFrom, clientKeyFrom and clientAssertionFrom are mutually exclusive": {
        "client with a secret and a key": oauth(clientKeyFrom=secret_at("key")),
        "client with a secret and a ServiceAccount": oauth(clientAssertionFrom=ACCOUNT),
        "client with a key and a ServiceAccount": with_key(clientAssertionFrom=ACCOUNT),
    },
    "clientAuthentication client_secret_basic and client_secret_post require clientSecretFrom": {
        "client_secret_basic without a secret": refresh(clientAuthentication="client_secret_basic"),
        "client_secret_post with a ServiceAccount": with_assertion(clientAuthentication="client_secret_post"),
        "none with a secret": oauth(clientAuthentication="none"),
        "none with a ServiceAccount": with_assertion(clientAuthentication="none"),
        "private_key_jwt without a key": oauth(clientAuthentication="private_key_jwt"),
    },
    "keyId, algorithm, clientAssertion and clientCertificateFrom require clientKeyFrom": {
        "key id without a key": oauth(keyId="1"),
        "algorithm without a key": oauth(algorithm="ES256"),
        "client assertion without a key": with_assertion(clientAssertion={"audience": "a"}),
        "certificate without a key": oauth(clientCertificateFrom=secret_at("key")),
    },
    "clientCertificateFrom requires clientAssertion.certificateHeaders": {
        "certificate without a header": with_key(clientCertificateFrom=secret_at("key")),
        "certificate with an empty client assertion": with_key(
            clientCertificateFrom=secret_at("key"), clientAssertion={"audience": "a"}
        ),
    },
    "claims and integerClaims must not contain iss, sub, aud, jti, iat, exp, or those in timeClaims": {
        **{f"claim {name}": assertion(claims={"tenant": "a", name: "b"}) for name in ("sub", "aud")},
        "claim exp, an integer": assertion(integerClaims={"exp": 1}),
        "claim nbf of two kinds": assertion(integerClaims={"nbf": 1}, timeClaims=["nbf"]),
    },
    "a claim must not be in both claims and integerClaims": {
        "claim with two values": assertion(claims={"a": "1"}, integerClaims={"a": 1})
    },
    "clientAssertion.integerClaims": {
        "integer claim that is text": assertion(integerClaims={"token_exp": "60"}),
        "negative integer claim": assertion(integerClaims={"token_exp": -1}),
        "integer claim over 2^53": assertion(integerClaims={"token_exp": 2**53}),
    },
    "clientAssertion.timeClaims": {"unknown time claim": assertion(timeClaims=["auth_time"])},
    "headers must not contain alg, kid, x5c, jwk, crit, b64, enc, zip": {
        "header alg": assertion(headers={"alg": "none"}),
        "header that is derived from the certificate": assertion(headers={"x5t": "a"}, certificateHeaders=["x5t"]),
    },
    "names of claims and headers must have 1 to 128 characters": {
        "claim without a name": assertion(claims={"": "a"}),
        "integer claim without a name": assertion(integerClaims={"": 1}),
        "header with a name of 129 characters": assertion(headers={"a" * 129: "a"}),
    },
    "clientAssertion.audience": {"audience of a client assertion with a line break": assertion(audience="a\nb")},
    "clientAssertion.certificateHeaders": {
        "no certificate header": assertion(certificateHeaders=[]),
        "unknown certificate header": assertion(certificateHeaders=["x5u"]),
    },
    "oauthToken.algorithm": {
        "algorithm HS256": with_key(algorithm="HS256"),
        "algorithm none": with_key(algorithm="none"),
    },
    "exactly one of serviceAccount, secretKeyRef, pipeline must be set": {
        "client assertion from nowhere": with_assertion({}),
        "client assertion from two sources": with_assertion(ACCOUNT | secret_at("jwt")),
    },
    "audiences": {"client with a ServiceAccount and no audience": with_assertion({"serviceAccount": {"name": "app"}})},
    "clientAssertionFrom.serviceAccount.expirationSeconds": {
        "client with a ServiceAccount for 9 minutes": with_assertion(
            {"serviceAccount": ACCOUNT["serviceAccount"] | {"expirationSeconds": 599}}
        )
    },
    "clientAssertionFrom.pipeline": {"client with the refresh token": pipeline("refreshToken", ACCESS_TOKEN)},
    "clientAssertionFrom.pipeline accessToken requires an earlier exchange": {
        "client with the source token": pipeline("accessToken"),
        "client with its own access token": pipeline("accessToken", grantType="refresh_token"),
    },
    "idToken requires one of these exchanges before it": {
        "client with an ID token that nothing returns": pipeline("idToken", ACCESS_TOKEN)
    },
    "grantType refresh_token sends source.token": {
        "refresh_token grant after a token, of a client with a ServiceAccount": with_assertion(
            ACCOUNT, ACCESS_TOKEN, grantType="refresh_token"
        )
    },
    "the target must not be a Secret that the spec reads": {
        "Secret of the client key as the target": with_key(clientKeyFrom=secret_at("acme")),
        "Secret of the client certificate as the target": with_key(
            clientCertificateFrom=secret_at("acme"), clientAssertion={"certificateHeaders": ["x5t"]}
        ),
        "Secret of the client assertion as the target": with_assertion(secret_at("acme")),
    },
}
