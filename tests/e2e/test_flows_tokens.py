"""The exchanges that give tokens, on the real control plane: from kubectl apply to a proven Secret, and again."""

from collections.abc import Callable
from typing import Any

import boto3
import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import (
    ACCOUNT,
    ACCOUNT_ROLE_ARN,
    APPLICATION_ARN,
    CLIENT_ID,
    CLIENT_SECRET,
    LICENSE_ARN,
    OIDC_ROLE_ARN,
    OTHER_APPLICATION_ARN,
    PERMISSION_SET,
    REDIRECT_URI,
    USER_KEY_ID,
    USER_SECRET_KEY,
)
from tests.support.processes import until

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
JWT = "urn:ietf:params:oauth:token-type:jwt"
REFRESH = "urn:ietf:params:oauth:token-type:refresh_token"
USER = {"AWS_ACCESS_KEY_ID": USER_KEY_ID, "AWS_SECRET_ACCESS_KEY": USER_SECRET_KEY}
SOURCE = {"token": {"secretKeyRef": {"name": "source", "key": "token"}}}
KEYS = {"credentials": {"secretRef": {"name": "keys"}}}
VERIFIER = "verifier-of-forty-three-characters-or-more-"
ROLE = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}
PORTAL = {"identityCenterGetRoleCredentials": {"roleName": PERMISSION_SET, "accountId": ACCOUNT}}
NO_REFRESH = f"{APPLICATION_ARN[:-1]}0"
SECONDS = 6


@pytest.fixture
def flows(loopback_operator: Operator, aws: Emulator, namespace: Namespace) -> Namespace:
    """A namespace with the secrets of the clients in it, whose sessions are short."""
    namespace.apply(*(_secret(name, values) for name, values in {"keys": USER, "client": _client()}.items()))
    ca = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": aws.ca}}
    namespace.apply(ca)
    return namespace


def _secret(name: str, values: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def _client() -> dict[str, str]:
    return {"secret": CLIENT_SECRET, "verifier": VERIFIER}


def of(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def oauth(aws: Emulator, grant: str, **more: Any) -> dict[str, Any]:
    """Ask the emulator's issuer, whose CA stands in a ConfigMap."""
    return {
        "oauthToken": {
            "tokenUrl": f"{aws.issuer_url}/token",
            "grantType": grant,
            "clientId": CLIENT_ID,
            "clientSecretFrom": of("client", "secret"),
            "caBundleFrom": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
            **more,
        }
    }


def center(grant: str, application: str = APPLICATION_ARN, **more: Any) -> dict[str, Any]:
    return {"identityCenterCreateToken": {"clientId": application, "grantType": grant, **more}}


def code(application: str = APPLICATION_ARN) -> dict[str, Any]:
    return center("authorization_code", application, codeFrom=of("sign-in", "code"), redirectUri=REDIRECT_URI,
                  codeVerifierFrom=of("client", "verifier"))  # fmt: skip


def sign_in(namespace: Namespace, aws: Emulator, application: str = APPLICATION_ARN) -> str:
    """Sign in, and put the code where the operator reads it."""
    given = aws.authorization_code(VERIFIER, application)
    namespace.token(given, name="sign-in", key="code")
    return given


def source(namespace: Namespace, token: str) -> None:
    namespace.token(token, name="source", key="token")


def short(aws: Emulator) -> None:
    aws.settings(oauth_access_seconds=SECONDS, identity_center_seconds=SECONDS, session_seconds=SECONDS)


def proven(namespace: Namespace, aws: Emulator) -> None:
    """The Secret holds what AWS or the issuer gave: credentials that work, or a token that it knows."""
    data = namespace.data("acme")
    if "token" in data:
        assert data["token"] in aws.secrets()
        return
    key_id, secret_key, session_token = (data[name] for name in KEY_NAMES)
    client = boto3.client(
        "sts",
        region_name="us-east-1",
        endpoint_url=aws.url,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret_key,
        aws_session_token=session_token,
    )
    assert client.get_caller_identity()["Account"] == ACCOUNT


KEY_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
Begin = Callable[[Namespace, Emulator], Any]
Steps = Callable[[Emulator], list[dict[str, Any]]]


def nothing(_namespace: Namespace, _aws: Emulator) -> None:
    """There is nothing to start from but keys, or nothing at all."""


FLOWS: dict[str, tuple[dict[str, Any], Begin, Steps]] = {
    "a client's own token, of a CA in a ConfigMap": (
        {},
        nothing,
        lambda aws: [oauth(aws, "client_credentials")],
    ),
    "a token that is exchanged": (
        KEYS,
        nothing,
        lambda aws: [
            oauth(aws, "client_credentials"),
            oauth(aws, EXCHANGE, subjectTokenType=JWT, audience=["api"]),
        ],
    ),
    "an assertion of a client": (
        KEYS,
        nothing,
        lambda aws: [oauth(aws, "client_credentials", audience=[aws.issuer_url]), oauth(aws, BEARER)],
    ),
    "an ID token for a role": (
        SOURCE,
        lambda namespace, aws: source(namespace, aws.oauth_refresh_token()),
        lambda aws: [
            oauth(aws, "refresh_token"),
            {"assumeRoleWithWebIdentity": {"roleArn": OIDC_ROLE_ARN, "from": "idToken"}},
        ],
    ),
    "a code, and then a role for the user": (KEYS, sign_in, lambda _: [code(), ROLE]),
    "a code, and then a permission set": (KEYS, sign_in, lambda _: [code(), PORTAL]),
    "a code, with the credentials of a role": (KEYS, sign_in, lambda _: [ROLE, code(), ROLE]),
    "a refresh token of Identity Center": (
        SOURCE | KEYS,
        lambda namespace, aws: source(namespace, aws.identity_center_token(refresh=True)),
        lambda _: [center("refresh_token"), PORTAL],
    ),
    "an assertion of a trusted issuer, made anew each time": (
        SOURCE | KEYS,
        lambda namespace, aws: source(namespace, aws.oauth_refresh_token()),
        lambda aws: [oauth(aws, "refresh_token", audience=[APPLICATION_ARN]), center(BEARER), ROLE],
    ),
    "an assertion that works once, and what it gave": (
        SOURCE | KEYS,
        lambda namespace, aws: source(namespace, aws.jwt(APPLICATION_ARN)),
        lambda _: [center(BEARER), ROLE],
    ),
    "an assertion in a Secret of its own": (
        KEYS,
        lambda namespace, aws: namespace.token(aws.jwt(APPLICATION_ARN), name="jwt", key="assertion"),
        lambda _: [center(BEARER, assertionFrom=of("jwt", "assertion")), ROLE],
    ),
    "a token of another application": (
        SOURCE | KEYS,
        lambda namespace, aws: source(namespace, aws.identity_center_token(OTHER_APPLICATION_ARN)),
        lambda _: [center(EXCHANGE), ROLE],
    ),
    "a token of another application, once, for a refresh token": (
        SOURCE | KEYS,
        lambda namespace, aws: source(namespace, aws.identity_center_token(OTHER_APPLICATION_ARN)),
        lambda _: [center(EXCHANGE, requestedTokenType=REFRESH), ROLE],
    ),
    "a token of any issuer, once, for a refresh token": (
        SOURCE,
        lambda namespace, aws: source(namespace, aws.jwt("orders", expires_in=SECONDS)),
        lambda aws: [oauth(aws, EXCHANGE, subjectTokenType=JWT, requestedTokenType=REFRESH)],
    ),
}


@pytest.mark.parametrize(("start", "begin", "steps"), FLOWS.values(), ids=FLOWS)
def test_a_flow_goes_on_through_two_renewals(
    start: dict[str, Any], begin: Begin, steps: Steps, flows: Namespace, aws: Emulator
) -> None:
    begin(flows, aws)
    short(aws)
    flows.apply(token_request(source=start, exchanges=steps(aws)))
    flows.is_ready("acme")
    first = flows.data("acme")
    until(lambda: flows.status("acme").get("revision", 0) >= 3, seconds=60)

    assert flows.data("acme") != first
    proven(flows, aws)
    assert flows.condition("acme", "Stalled") == ("", "", "")
    assert flows.events("acme") == ["Issued"]


def test_a_code_is_spent_once_and_its_refresh_tokens_in_order(flows: Namespace, aws: Emulator) -> None:
    given = sign_in(flows, aws)
    short(aws)
    flows.apply(token_request(source=KEYS, exchanges=[code(), ROLE]))
    until(lambda: flows.status("acme").get("revision", 0) >= 3, seconds=60)
    flows.kubectl("patch", "treq/acme", "--type=merge", '--patch={"spec":{"suspend":true}}')
    until(lambda: flows.condition("acme", "Ready")[1] == "Suspended")
    family = aws.identity_center_family(given)

    assert family.consumed == list(range(len(family.consumed)))
    assert len(family.consumed) >= 2
    assert (family.reuses, family.revoked) == (0, False)
    assert aws.calls("AssumeRole:with context") >= 3


def test_a_code_that_gives_no_refresh_token_is_used_once_and_then_a_persons_business(
    flows: Namespace, aws: Emulator
) -> None:
    aws.control("POST", "identity-center-applications", arn=NO_REFRESH, grants=["authorization_code"])
    sign_in(flows, aws, NO_REFRESH)
    aws.settings(session_seconds=20)
    flows.apply(token_request(source=KEYS, exchanges=[code(NO_REFRESH), ROLE]))
    flows.is_ready("acme")
    assert "renewalTime" not in flows.status("acme")

    said = flows.turns("acme", "Stalled", "SourceSpent", seconds=30)
    assert flows.condition("acme", "Ready")[:2] == ("True", "Issued")
    assert "put a new one there" in said
    until(lambda: flows.condition("acme", "Ready")[1] == "Expired", seconds=30)
    assert aws.calls("CreateTokenWithIAM") == 1

    flows.kubectl("label", "secret/sign-in", "keyturn.dev/source=true")
    sign_in(flows, aws, NO_REFRESH)
    until(lambda: flows.condition("acme", "Ready")[:2] == ("True", "Renewed"), seconds=70)
    assert aws.calls("CreateTokenWithIAM") == 2


def test_a_token_of_a_license_feeds_another_request(flows: Namespace, aws: Emulator) -> None:
    mint = {"licenseManagerCreateToken": {"licenseArn": LICENSE_ARN, "revokeSuperseded": {"after": "1s"}}}
    flows.apply(token_request("license", source=KEYS, exchanges=[mint]))
    flows.is_ready("license")
    first = flows.data("license")["token"]
    start = {"token": {"secretKeyRef": {"name": "license", "key": "token"}}}
    flows.apply(token_request(source=start))
    flows.is_ready("acme")
    proven(flows, aws)
    for revision in (2, 3, 4):
        flows.ask("license", f"n{revision}")
        until(lambda: flows.status("license").get("revision") == revision, seconds=20)  # noqa: B023 - at once

    assert flows.data("license")["token"] in aws.secrets()
    assert flows.data("license")["token"] != first
    assert aws.calls("CreateToken") == 4
    assert aws.calls("DeleteToken") >= 1
    assert flows.status("license")["expirationTime"] > "2027"


def test_an_issuer_that_answers_a_page_is_told_without_it(flows: Namespace, aws: Emulator) -> None:
    aws.fault("oauth:token", times=None, body="html")
    flows.apply(token_request(source=KEYS, exchanges=[oauth(aws, "client_credentials")]))
    said = flows.turns("acme", "Renewed", "Unavailable")

    assert "no token" in said
    assert "<html" not in said
