"""How the response of a token endpoint is classified: by its content, and by its status only where that is silent."""

from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from keyturn.api.exchanges.base import REFRESH_TOKEN_TYPE
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.exchanges import token_response
from keyturn.exchanges.issuer_http import IssuerResponse
from keyturn.exchanges.token_response import read_token_response
from tests.support.cases import cases
from tests.support.dependencies import MINUTE, NOW

TOKENS = {"access_token": "access", "refresh_token": "next", "expires_in": 3600}
UNKNOWN = "Unavailable, outcome unknown"
CLIENT_CODE = "incorrect_client_credentials"


def read(
    status: int,
    members: dict[str, Any] | None,
    *,
    consumes: bool = True,
    sends_token: bool = True,
    retry_after: timedelta = timedelta(),
) -> PipelineValues:
    response = IssuerResponse("id.example", status, members, retry_after, NOW)
    return read_token_response(PipelineValues(Token("sent")), response, sends_token=sends_token, consumes=consumes)


def classified(error: Exception | None) -> str:
    """The reason of an error, and what else decides about the next attempt."""
    if isinstance(error, UnavailableError) and error.outcome_unknown:
        return f"{error.reason}, outcome unknown"
    if isinstance(error, RefusedError) and error.may_concern_token:
        return f"{error.reason}, perhaps the token"
    return error.reason if isinstance(error, KeyturnError) else ""


@cases(
    "status, members",
    {
        "201": (201, TOKENS),
        "202": (202, TOKENS),
        "203: a proxy changed it": (203, TOKENS),
        "an empty error": (200, TOKENS | {"error": "", "errorCode": 0}),
        "no error": (200, TOKENS | {"error": None}),
        "Withings: one level down": (200, {"status": 0, "body": TOKENS | {"userid": "1"}}),
        "one level down, beside other objects": (200, {"code": 0, "data": TOKENS, "extra": {"log_id": "1"}}),
        "one level down, with an empty error": (200, {"error": None, "result": TOKENS}),
        "a copy one level down": (200, TOKENS | {"data": {"access_token": "another"}}),
        "a member that only looks like an error": (201, TOKENS | {"error": {"code": 0}, "message": "created"}),
    },
)
@pytest.mark.parametrize("consumes", [True, False])
def test_any_2xx_with_a_token_is_a_success(status: int, members: dict[str, Any], *, consumes: bool) -> None:
    values = read(status, members, consumes=consumes)

    assert values.access_token
    assert (values.access_token.value, values.refresh_token, values.error) == ("access", "next", None)


@cases(
    "status, members, expected",
    {
        "200: standard code": (200, {"error": "invalid_client"}, "AccessDenied"),
        "200: own code": (200, {"error": "bad_refresh_token"}, "SourceInvalid, perhaps the token"),
        "200: own code that names the client": (200, {"error": CLIENT_CODE}, "AccessDenied, perhaps the token"),
        "200: own code and more": (200, {"ok": False, "error": "x", "data": {}}, "SourceInvalid, perhaps the token"),
        "200: tokens that are null": (200, {"error": "x", "access_token": None}, "SourceInvalid, perhaps the token"),
        "200: object": (200, {"error": {"code": 190}}, "SourceInvalid, perhaps the token"),
        "302: own code": (302, {"error": "login_required"}, "SourceInvalid, perhaps the token"),
        "401: own code": (401, {"error": "token_reused"}, "AccessDenied, perhaps the token"),
        "409: own code": (409, {"error": "conflict"}, "SourceInvalid, perhaps the token"),
        "422: own code": (422, {"error": "unprocessable"}, "SourceInvalid, perhaps the token"),
        "500: standard code": (500, {"error": "invalid_grant"}, "SourceInvalid"),
        "404: standard code": (404, {"error": "invalid_client"}, "AccessDenied"),
        "404: own code": (404, {"error": "Realm does not exist"}, "InvalidSpec"),
        "200: members of its own": (200, {"errcode": 40125, "errmsg": "x"}, "SourceInvalid, perhaps the token"),
        "200: members one level down": (
            200,
            {"data": {"error_code": 10010, "access_token": ""}},
            "SourceInvalid, perhaps the token",
        ),
        "302: members of its own": (302, {"message": "moved"}, "InvalidSpec"),
        "400: members of its own": (400, {"status": "BAD_REFRESH_TOKEN"}, "SourceInvalid, perhaps the token"),
        "401: members of its own": (401, {"errors": [{"code": 10401}]}, "AccessDenied, perhaps the token"),
        "404: members of its own": (404, {"message": "no route"}, "InvalidSpec"),
        "403: page of a proxy": (403, None, "InvalidSpec"),
        "408: own code": (408, {"error": "too slow"}, "Unavailable"),
        "429: own code": (429, {"error": "quota"}, "Throttled"),
        "200: slow_down": (200, {"error": "slow_down"}, "Throttled"),
        "400: slow_down in upper case": (400, {"error": "SLOW_DOWN"}, "Throttled"),
        "200: temporarily_unavailable": (200, {"error": "temporarily_unavailable"}, "Unavailable"),
        "400: server_error": (400, {"error": "server_error"}, "Unavailable"),
        "503: server_error": (503, {"error": "server_error"}, "Unavailable"),
        "503: own code": (503, {"error": "maintenance"}, "Unavailable"),
        "500: server_error": (500, {"error": "server_error"}, UNKNOWN),
        "500: own code": (500, {"error": "oops"}, UNKNOWN),
        "502: page of a proxy": (502, None, UNKNOWN),
        "200: page of a proxy": (200, None, UNKNOWN),
        "200: neither token nor error": (200, {"token_type": "Bearer"}, UNKNOWN),
        "200: an empty object": (200, {}, UNKNOWN),
        "200: tokens by another name": (200, {"result": [{"accessToken": "x", "refreshToken": "y"}]}, UNKNOWN),
        "204: no body": (204, None, UNKNOWN),
        "200: two objects with tokens": (200, {"app": TOKENS, "user": TOKENS}, UNKNOWN),
        "200: an object without an access token": (200, {"request": {"refresh_token": "sent"}}, UNKNOWN),
        "200: an error that repeats a token": (200, {"error": "x", "data": TOKENS}, "SourceInvalid, perhaps the token"),
        "500: tokens one level down": (500, {"data": TOKENS}, UNKNOWN),
    },
)
def test_error_is_classified_by_its_content(status: int, members: dict[str, Any] | None, expected: str) -> None:
    errors = []
    for consumes in (True, False):
        with pytest.raises(KeyturnError) as raised:
            read(status, members, consumes=consumes)
        errors.append(raised.value)

    # Without a token to consume, the outcome is never unknown.
    assert [classified(error) for error in errors] == [expected, expected.removesuffix(", outcome unknown")]


@cases(
    "status, members, expected",
    {
        "200: standard code": (200, {"error": "invalid_scope"}, "InvalidSpec"),
        "200: own code": (200, {"error": "scope_narrowed"}, "SourceInvalid, perhaps the token"),
        "400: standard code": (400, {"error": "invalid_target"}, "InvalidSpec"),
        "500: no code": (500, {}, "Unavailable"),
        "500: server_error": (500, {"error": "server_error"}, "Unavailable"),
        "429": (429, {}, "Throttled"),
    },
)
def test_error_with_a_new_refresh_token_waits_for_its_save(status: int, members: dict[str, Any], expected: str) -> None:
    values = read(status, TOKENS | members)

    assert (values.refresh_token, classified(values.error)) == ("next", expected)
    with pytest.raises(KeyturnError):
        read(status, TOKENS | members, consumes=False)


@pytest.mark.parametrize("code", ["invalid_grant", "bad_request", CLIENT_CODE])
def test_refusal_without_a_token_concerns_the_client(code: str) -> None:
    with pytest.raises(RefusedError) as raised:
        read(200, {"error": code}, consumes=False, sends_token=False)

    assert raised.value.reason == "AccessDenied"
    assert (
        raised.value.message.endswith("; check the client, its secret, key or assertion, and tokenUrl")
        or code == CLIENT_CODE
    )


def test_error_with_an_access_token_alone_is_raised() -> None:
    with pytest.raises(RefusedError):
        read(200, {"access_token": "access", "error": "invalid_scope"})


@pytest.mark.parametrize("status", [200, 400, 401])
def test_own_code_is_not_repeated(status: int) -> None:
    with pytest.raises(RefusedError) as raised:
        read(status, {"error": "planted", "error_description": "planted", "error_uri": "planted"})

    hint = "check the client, its secret, key or assertion, the token and tokenUrl"
    assert raised.value.message == f"id.example: HTTP {status} with a non-standard error; {hint}"


def test_repr_shows_no_tokens() -> None:
    assert "next" not in repr(read(200, TOKENS | {"error": "invalid_scope"}))


@cases(
    "status, members, reason",
    {
        "no code": (503, None, "Throttled"),
        "temporary": (503, {"error": "temporarily_unavailable"}, "Throttled"),
        "the token is refused": (503, {"error": "invalid_grant"}, "SourceInvalid"),
        "the outcome is unknown": (500, {"error": "server_error"}, UNKNOWN),
    },
)
def test_503_with_retry_after_is_throttling(status: int, members: dict[str, Any] | None, reason: str) -> None:
    with pytest.raises(KeyturnError) as raised:
        read(status, members, retry_after=MINUTE)

    assert classified(raised.value) == reason
    assert not isinstance(raised.value, ThrottledError) or raised.value.retry_after == MINUTE


@cases(
    "members",
    {
        "refresh token": TOKENS,
        "refresh token by its type": {"access_token": "next", "issued_token_type": REFRESH_TOKEN_TYPE},
    },
)
@pytest.mark.parametrize("bug_in", ["_error", "token_expiry", "refresh_token_expiry", "replace"])
def test_bug_does_not_lose_a_new_refresh_token(
    members: dict[str, Any], bug_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = OverflowError("date value out of range")
    monkeypatch.setattr(token_response, bug_in, Mock(side_effect=bug))
    values = read(200, members)

    assert (values.refresh_token, values.access_token, values.error) == ("next", None, bug)
    with pytest.raises(OverflowError):
        read(200, members, consumes=False)
