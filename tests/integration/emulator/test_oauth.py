import base64
import json
import ssl
from typing import Any

import jwt
import pytest

from tests.support.cases import cases
from tests.support.certificates import issue_loopback_certificate
from tests.support.clock import real_now
from tests.support.emulator.boto import Boto, as_keys, error_of
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import (
    ACCOUNT,
    AUDIENCE,
    CLIENT_ID,
    CLIENT_SECRET,
    LICENSE_PROVIDER,
    NON_ROTATING_CLIENT_ID,
    OIDC_ROLE_ARN,
    WEB_IDENTITY_ACTION,
    trust_policy,
)
from tests.support.emulator.oauth.client import HttpResponse, basic_authorization, send
from tests.support.emulator.oauth.token_families import History

BASIC = basic_authorization(CLIENT_ID, CLIENT_SECRET)
NOT_ENCODED = {"Authorization": "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()}
SCOPES = "offline_access openid"


def refresh(aws: Emulator, token: str, headers: dict[str, str] = BASIC, **form: str) -> HttpResponse:
    form = {"grant_type": "refresh_token", "refresh_token": token, **form}
    return send(f"{aws.issuer_url}/token", aws.ca, form, headers)


def test_refresh_rotates_the_token(aws: Emulator) -> None:
    first = aws.oauth_refresh_token()
    second = refresh(aws, first)
    third = refresh(aws, second["refresh_token"])

    assert (second.status, third.status, second["token_type"]) == (200, 200, "Bearer")
    assert len({first, second["refresh_token"], third["refresh_token"]}) == 3
    assert second.headers["cache-control"] == "no-store"
    assert aws.calls("oauth:refresh_token") == aws.calls("oauth:token") == 2


def test_reuse_revokes_the_family(aws: Emulator) -> None:
    first = aws.oauth_refresh_token()
    second = refresh(aws, first)["refresh_token"]
    third = refresh(aws, second)["refresh_token"]
    responses = [refresh(aws, token) for token in (second, third, first)]

    assert {(response.status, response["error"]) for response in responses} == {(400, "invalid_grant")}
    assert aws.family(third) == aws.family(first) == History(2, consumed=[0, 1], reuses=2, revoked=True)
    assert (aws.calls("oauth:refresh_token"), aws.calls("oauth:token")) == (2, 5)


def test_families_are_independent(aws: Emulator) -> None:
    first, other = aws.oauth_refresh_token(), aws.oauth_refresh_token()
    refresh(aws, first)
    refresh(aws, first)

    assert refresh(aws, other).status == 200
    assert aws.family(other) == History(1, consumed=[0])


def test_non_rotating_client_keeps_its_token(aws: Emulator) -> None:
    token = aws.oauth_refresh_token(NON_ROTATING_CLIENT_ID)
    headers = basic_authorization(NON_ROTATING_CLIENT_ID, CLIENT_SECRET)
    responses = [refresh(aws, token, headers) for _ in range(3)]

    assert [response.status for response in responses] == [200] * 3
    assert "refresh_token" not in responses[0].members
    assert aws.family(token) == History(consumed=[0, 0, 0])


def test_client_secret_may_be_posted(aws: Emulator) -> None:
    form = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}

    assert refresh(aws, aws.oauth_refresh_token(), {}, **form).status == 200


@cases(
    "headers, form, error",
    {
        "wrong secret, basic": (basic_authorization(CLIENT_ID, "wrong"), {}, "invalid_client"),
        "wrong secret, post": ({}, {"client_id": CLIENT_ID, "client_secret": "wrong"}, "invalid_client"),
        "unknown client": (basic_authorization("unknown", CLIENT_SECRET), {}, "invalid_client"),
        "basic is not base64": ({"Authorization": "Basic ?"}, {}, "invalid_client"),
        "basic is not form-encoded": (NOT_ENCODED, {}, "invalid_client"),
        "no client": ({}, {}, "invalid_client"),
        "no secret": ({}, {"client_id": CLIENT_ID}, "invalid_client"),
        "neither basic nor post": ({"Authorization": "Bearer x"}, {}, "invalid_request"),
        "basic and post": (BASIC, {"client_secret": CLIENT_SECRET}, "invalid_request"),
        "two clients": (BASIC, {"client_id": "other"}, "invalid_request"),
        "token of another client": (
            basic_authorization(NON_ROTATING_CLIENT_ID, CLIENT_SECRET),
            {},
            "invalid_grant",
        ),
        "scope exceeds the grant": (BASIC, {"scope": "openid admin"}, "invalid_scope"),
        "unknown grant": (BASIC, {"grant_type": "password"}, "unsupported_grant_type"),
        "no grant": (BASIC, {"grant_type": ""}, "invalid_request"),
        "no refresh token": (BASIC, {"refresh_token": ""}, "invalid_request"),
        "unknown refresh token": (BASIC, {"refresh_token": "unknown"}, "invalid_grant"),
    },
)
def test_rejected_request_consumes_nothing(
    headers: dict[str, str], form: dict[str, str], error: str, aws: Emulator
) -> None:
    token = aws.oauth_refresh_token()
    response = refresh(aws, token, headers, **form)

    assert (response.status, response["error"]) == (401 if error == "invalid_client" else 400, error)
    assert ("www-authenticate" in response.headers) is (response.status == 401)
    assert aws.family(token) == History()
    assert refresh(aws, token).status == 200


@cases(
    "form, headers",
    {
        "repeated parameter": ([("grant_type", "refresh_token")] * 2, {}),
        "not a form": ([("grant_type", "refresh_token")], {"Content-Type": "application/json"}),
    },
)
def test_malformed_form_is_rejected(form: list[tuple[str, str]], headers: dict[str, str], aws: Emulator) -> None:
    form = [*form, ("refresh_token", aws.oauth_refresh_token())]
    response = send(f"{aws.issuer_url}/token", aws.ca, form, BASIC | headers)

    assert (response.status, response["error"]) == (400, "invalid_request")


def test_expired_refresh_token_is_rejected(aws: Emulator) -> None:
    token = aws.oauth_refresh_token(expires_in=100)
    second = refresh(aws, token)["refresh_token"]
    aws.settings(clock_offset_seconds=101)

    assert refresh(aws, second)["error"] == "invalid_grant"
    assert not aws.family(second).revoked


def test_server_is_verified_by_its_own_ca_only(aws: Emulator) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        send(f"{aws.issuer_url}/jwks", issue_loopback_certificate(real_now()).ca)


@cases(
    "requested, scope, has_id_token",
    {
        "all granted scopes by default": ("", SCOPES, True),
        "fewer scopes": ("openid", "openid", True),
        "no ID token without openid": ("offline_access", "offline_access", False),
    },
)
def test_scope(requested: str, scope: str, aws: Emulator, *, has_id_token: bool) -> None:
    response = refresh(aws, aws.oauth_refresh_token(), scope=requested)

    assert (response["scope"], "id_token" in response.members) == (scope, has_id_token)


def test_fewer_scopes_do_not_narrow_the_grant(aws: Emulator) -> None:
    second = refresh(aws, aws.oauth_refresh_token(), scope="openid")["refresh_token"]

    assert refresh(aws, second)["scope"] == SCOPES


def test_tokens_are_verified_by_discovery(aws: Emulator) -> None:
    aws.settings(oauth_access_seconds=120)
    metadata = send(f"{aws.issuer_url}/.well-known/openid-configuration", aws.ca)
    keys = jwt.PyJWKSet.from_dict(json.loads(send(metadata["jwks_uri"], aws.ca).text))
    response = refresh(aws, aws.oauth_refresh_token())

    assert (metadata.status, metadata["issuer"]) == (200, aws.issuer_url)
    assert (metadata["token_endpoint"], response["expires_in"]) == (f"{aws.issuer_url}/token", 120)
    for name, audience in {"access_token": AUDIENCE, "id_token": CLIENT_ID}.items():
        key = keys[jwt.get_unverified_header(response[name])["kid"]]
        claims = jwt.decode(response[name], key, ["RS256"], audience=audience, issuer=aws.issuer_url)
        assert (claims["sub"], claims["exp"] - claims["iat"]) == ("demo-user", 120)


def assume(boto: Boto, token: str, role: str = OIDC_ROLE_ARN) -> Any:
    params = {"RoleArn": role, "RoleSessionName": "demo", "WebIdentityToken": token}
    return boto("sts").assume_role_with_web_identity(**params)


@pytest.mark.parametrize("name", ["access_token", "id_token"])
def test_sts_accepts_the_tokens(name: str, boto: Boto, aws: Emulator) -> None:
    response = assume(boto, refresh(aws, aws.oauth_refresh_token())[name])
    identity = boto("sts", **as_keys(response["Credentials"])).get_caller_identity()

    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/OidcConsumer/demo"
    assert response["Provider"].endswith(aws.issuer_url.removeprefix("https://"))


def test_sts_refuses_another_audience_or_role(aws: Emulator, boto: Boto) -> None:
    aws.oauth_client("other", client_secret="other-secret", audience="other")
    headers = basic_authorization("other", "other-secret")
    other = refresh(aws, aws.oauth_refresh_token("other"), headers)["access_token"]
    token = refresh(aws, aws.oauth_refresh_token())["access_token"]
    role = OIDC_ROLE_ARN + "Not"
    policy = trust_policy({"Federated": LICENSE_PROVIDER}, WEB_IDENTITY_ACTION, {})
    aws.control("POST", "roles", arn=role, trust_policy=policy)

    assert error_of(assume, boto, other) == ("InvalidIdentityToken", 400)
    assert error_of(assume, boto, token, role) == ("AccessDenied", 403)


@cases(
    "fault, status, prefix, consumed",
    {
        "HTML": ({"body": "html"}, 200, "<!DOCTYPE html>", 0),
        "empty body": ({"body": "empty"}, 200, "", 0),
        "error with HTTP 200": ({"code": "invalid_grant", "status": 200}, 200, '{"error": "invalid_grant"', 0),
        "error": ({"code": "invalid_grant"}, 400, '{"error": "invalid_grant"', 0),
        "no access token": ({"without": "access_token"}, 200, '{"token_type"', 1),
        "redirect": ({"status": 302, "headers": {"Location": "/"}}, 302, "<!DOCTYPE", 0),
        "too many requests": ({"status": 429, "headers": {"Retry-After": "7"}}, 429, "<!DOCTYPE", 0),
    },
)
def test_faulty_response(fault: dict[str, Any], status: int, prefix: str, consumed: int, aws: Emulator) -> None:
    token = aws.oauth_refresh_token()
    aws.fault("oauth:token", **fault)
    response = refresh(aws, token)

    assert (response.status, response.text[: len(prefix)]) == (status, prefix)
    assert fault.get("headers", {}).items() <= {(k.title(), v) for k, v in response.headers.items()}
    assert len(aws.family(token).consumed) == consumed


@pytest.mark.parametrize("member", ["expires_in", "refresh_token", "id_token"])
def test_member_can_be_missing(member: str, aws: Emulator) -> None:
    aws.fault("oauth:token", without=member)
    faulty, complete = (refresh(aws, aws.oauth_refresh_token()) for _ in range(2))

    assert complete.members - faulty.members == {member}


def test_access_token_can_be_long(aws: Emulator) -> None:
    aws.fault("oauth:token", token_characters=20000)

    assert 20000 < len(refresh(aws, aws.oauth_refresh_token())["access_token"]) < 30000


def test_access_token_can_be_expired(aws: Emulator) -> None:
    aws.fault("oauth:token", expired=True)
    response = refresh(aws, aws.oauth_refresh_token())
    claims = jwt.decode(response["access_token"], options={"verify_signature": False})

    assert response["expires_in"] == 0
    assert claims["exp"] < real_now().timestamp()


@pytest.mark.parametrize("fault", [{"without": "expires_in"}, {"token_characters": 1}], ids=str)
def test_oauth_fault_is_rejected_for_aws(fault: dict[str, Any], aws: Emulator) -> None:
    with pytest.raises(ValueError, match="apply to OAuth only"):
        aws.fault("GetAccessToken", **fault)
