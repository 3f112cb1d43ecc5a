import base64

from tests.support.cases import cases
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_ID, CLIENT_SECRET, NON_ROTATING_CLIENT_ID
from tests.support.emulator.oauth.client import HttpResponse, basic_authorization, send
from tests.support.emulator.oauth.token_families import History

BASIC = basic_authorization(CLIENT_ID, CLIENT_SECRET)
NOT_ENCODED = {"Authorization": "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()}


def refresh(aws: Emulator, token: str, headers: dict[str, str] = BASIC, **form: str) -> HttpResponse:
    form = {"grant_type": "refresh_token", "refresh_token": token, **form}
    return send(f"{aws.issuer_url}/token", aws.ca, form, headers)


def test_reuse_revokes_the_family(aws: Emulator) -> None:
    first = aws.oauth_refresh_token()
    second = refresh(aws, first)["refresh_token"]
    third = refresh(aws, second)["refresh_token"]
    responses = [refresh(aws, token) for token in (second, third, first)]

    assert {(response.status, response["error"]) for response in responses} == {(400, "invalid_grant")}
    assert aws.family(third) == aws.family(first) == History(2, consumed=[0, 1], reuses=2, revoked=True)
    assert (aws.calls("oauth:refresh_token"), aws.calls("oauth:token")) == (2, 5)


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
        "token of another client": (basic_authorization(NON_ROTATING_CLIENT_ID, CLIENT_SECRET), {}, "invalid_grant"),
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
