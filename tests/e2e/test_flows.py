"""Flows that no example shows, and sources that are consumed once: kubectl apply, use of the Secret, renewals."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.cases import cases
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.cluster.rotating_source import refresh_step
from tests.support.cluster.sources import CODE_VERIFIER, KEYS_SOURCE, USER_KEYS, caller_arn
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import (
    ACCOUNT,
    ACCOUNT_ROLE_ARN,
    APPLICATION_ARN,
    CLIENT_SECRET,
    LICENSE_ARN,
    OTHER_APPLICATION_ARN,
    PERMISSION_SET,
    REDIRECT_URI,
)
from tests.support.processes import until

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
JWT = "urn:ietf:params:oauth:token-type:jwt"
REFRESH = "urn:ietf:params:oauth:token-type:refresh_token"
SOURCE = {"token": {"secretKeyRef": {"name": "source", "key": "token"}}}
ROLE = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}
PORTAL = {"identityCenterGetRoleCredentials": {"roleName": PERMISSION_SET, "accountId": ACCOUNT}}
NO_REFRESH_ARN = f"{APPLICATION_ARN[:-1]}0"


@pytest.fixture
def flows(loopback_operator: Operator, aws: Emulator, namespace: Namespace) -> Namespace:
    """A namespace with the user's keys and the client's secrets."""
    namespace.put_secret("keys", USER_KEYS)
    namespace.put_secret("client", {"secret": CLIENT_SECRET, "verifier": CODE_VERIFIER, "ca": aws.ca})
    return namespace


def key_ref(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def center(grant: str, application: str = APPLICATION_ARN, **fields: Any) -> dict[str, Any]:
    return {"identityCenterCreateToken": {"clientId": application, "grantType": grant, **fields}}


def code(application: str = APPLICATION_ARN) -> dict[str, Any]:
    return center(
        "authorization_code",
        application,
        codeFrom=key_ref("sign-in", "code"),
        redirectUri=REDIRECT_URI,
        codeVerifierFrom=key_ref("client", "verifier"),
    )


def put_code(namespace: Namespace, aws: Emulator, application: str = APPLICATION_ARN) -> str:
    """Sign in to Identity Center and store the authorization code."""
    authorization_code = aws.authorization_code(CODE_VERIFIER, application)
    namespace.put_token(authorization_code, name="sign-in", key="code")
    return authorization_code


def put_source(namespace: Namespace, token: str) -> None:
    namespace.put_token(token, name="source", key="token")


def assert_usable(data: dict[str, str], aws: Emulator) -> None:
    """Check that the Secret contains working credentials or a token that was issued."""
    if "token" in data:
        assert data["token"] in aws.secrets()
    else:
        assert ACCOUNT in caller_arn(data, aws)


Prepare = Callable[[Namespace, Emulator], Any]
Exchanges = Callable[[Emulator], list[dict[str, Any]]]


FLOWS: dict[str, tuple[dict[str, Any], Prepare, Exchanges]] = {
    "a code, and then a permission set": (KEYS_SOURCE, put_code, lambda _: [code(), PORTAL]),
    "a refresh token of Identity Center": (
        SOURCE | KEYS_SOURCE,
        lambda namespace, aws: put_source(namespace, aws.identity_center_token(refresh=True)),
        lambda _: [center("refresh_token"), PORTAL],
    ),
    "a single-use assertion, then its refresh token": (
        SOURCE | KEYS_SOURCE,
        lambda namespace, aws: put_source(namespace, aws.jwt(APPLICATION_ARN)),
        lambda _: [center(BEARER), ROLE],
    ),
    "an assertion in a Secret of its own": (
        KEYS_SOURCE,
        lambda namespace, aws: namespace.put_token(aws.jwt(APPLICATION_ARN), name="jwt", key="assertion"),
        lambda _: [center(BEARER, assertionFrom=key_ref("jwt", "assertion")), ROLE],
    ),
    "a token of another application, exchanged once for a refresh token": (
        SOURCE | KEYS_SOURCE,
        lambda namespace, aws: put_source(namespace, aws.identity_center_token(OTHER_APPLICATION_ARN)),
        lambda _: [center(EXCHANGE, requestedTokenType=REFRESH), ROLE],
    ),
    "a token of any issuer, exchanged once for a refresh token": (
        SOURCE,
        lambda namespace, aws: put_source(namespace, aws.jwt("orders", expires_in=6)),
        lambda aws: [refresh_step(aws, grantType=EXCHANGE, subjectTokenType=JWT, requestedTokenType=REFRESH)],
    ),
}


@cases("source, prepare, exchanges", FLOWS)
def test_flow_is_renewed_twice(
    source: dict[str, Any], prepare: Prepare, exchanges: Exchanges, flows: Namespace, aws: Emulator
) -> None:
    prepare(flows, aws)
    flows.apply(token_request(source=source, exchanges=exchanges(aws)))
    flows.wait_until_ready("acme")
    first = flows.secret_data("acme")
    for revision in (2, 3):
        flows.renew(revision)

    assert flows.secret_data("acme") != first
    assert_usable(flows.secret_data("acme"), aws)
    assert flows.condition("acme", "Stalled") == ("", "", "")
    assert flows.events("acme") == ["Issued"]


def test_code_and_its_refresh_tokens_are_consumed_in_order(flows: Namespace, aws: Emulator) -> None:
    authorization_code = put_code(flows, aws)
    aws.settings(oauth_access_seconds=6, identity_center_seconds=6, session_seconds=6)
    flows.apply(token_request(source=KEYS_SOURCE, exchanges=[code(), ROLE]))
    until(lambda: flows.revision() >= 3, seconds=60)
    flows.patch("treq", "acme", {"spec": {"suspend": True}})
    flows.wait_for_condition("acme", "Ready", "Suspended")
    family = aws.identity_center_family(authorization_code)

    assert family.consumed == list(range(len(family.consumed)))
    assert len(family.consumed) >= 2
    assert (family.reuses, family.revoked) == (0, False)
    assert aws.calls("AssumeRole:with context") >= 3


def test_code_without_refresh_token_is_consumed_once(flows: Namespace, aws: Emulator) -> None:
    aws.control("POST", "identity-center-applications", arn=NO_REFRESH_ARN, grants=["authorization_code"])
    put_code(flows, aws, NO_REFRESH_ARN)
    aws.settings(session_seconds=10)
    flows.apply(token_request(source=KEYS_SOURCE, exchanges=[code(NO_REFRESH_ARN), ROLE]))
    flows.wait_until_ready("acme")
    assert "renewalTime" not in flows.status("acme")

    message = flows.wait_for_condition("acme", "Stalled", "SourceConsumed", seconds=30)
    assert flows.condition("acme", "Ready")[:2] == ("True", "Issued")
    assert "store a new one in the source Secret" in message
    flows.wait_for_condition("acme", "Ready", "Expired", seconds=30)
    assert aws.calls("CreateTokenWithIAM") == 1

    flows.kubectl("label", "secret/sign-in", "keyturn.dev/source=true")
    put_code(flows, aws, NO_REFRESH_ARN)
    until(lambda: flows.condition("acme", "Ready")[:2] == ("True", "Renewed"), seconds=70)
    assert aws.calls("CreateTokenWithIAM") == 2


def test_license_token_is_the_source_of_another_request(flows: Namespace, aws: Emulator) -> None:
    create = {"licenseManagerCreateToken": {"licenseArn": LICENSE_ARN, "revokeSuperseded": {"gracePeriod": "1s"}}}
    flows.apply(token_request("license", source=KEYS_SOURCE, exchanges=[create]))
    flows.wait_until_ready("license")
    first = flows.secret_data("license")["token"]
    flows.apply(token_request(source={"token": {"secretKeyRef": {"name": "license", "key": "token"}}}))
    flows.wait_until_ready("acme")
    assert_usable(flows.secret_data("acme"), aws)
    for revision in (2, 3, 4):
        flows.renew(revision, "license")

    assert flows.secret_data("license")["token"] in aws.secrets()
    assert flows.secret_data("license")["token"] != first
    assert aws.calls("CreateToken") == 4
    assert aws.calls("DeleteToken") >= 1
    assert flows.status("license")["expirationTime"] > "2027"
