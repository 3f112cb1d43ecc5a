import http.client
import time
from typing import Any

import jwt
import pytest

from tests.integration.emulator.conftest import refresh
from tests.support.emulator.client import Emulator
from tests.support.emulator.oauth.token_families import History


@pytest.mark.parametrize(
    ("drop", "consumed"),
    [
        pytest.param("before", [], id="dropped before: nothing is spent"),
        pytest.param("after", [0], id="the lost answer: it is spent"),
    ],
)
def test_a_dropped_connection(drop: str, consumed: list[int], aws: Emulator) -> None:
    token = aws.oauth_refresh_token()
    aws.fault("oauth:token", drop=drop)
    with pytest.raises(http.client.RemoteDisconnected):
        refresh(aws, token)

    assert aws.family(token) == History(len(consumed), consumed)
    assert (aws.recent_calls()[-1]["outcome"], aws.calls("oauth:refresh_token")) == (
        f"dropped {drop}",
        len(consumed),
    )


@pytest.mark.parametrize(
    ("fault", "status", "beginning", "consumed"),
    [
        pytest.param({"body": "html"}, 200, "<!DOCTYPE html>", 0, id="HTML"),
        pytest.param({"body": "empty"}, 200, "", 0, id="nothing"),
        pytest.param({"code": "invalid_grant", "status": 200}, 200, '{"error": "invalid_grant"', 0, id="200"),
        pytest.param({"code": "invalid_grant"}, 400, '{"error": "invalid_grant"', 0, id="an OAuth error"),
        pytest.param({"without": "access_token"}, 200, '{"token_type"', 1, id="no token"),
        pytest.param({"status": 302, "headers": {"Location": "/"}}, 302, "<!DOCTYPE", 0, id="a redirect"),
        pytest.param({"status": 429, "headers": {"Retry-After": "7"}}, 429, "<!DOCTYPE", 0, id="too many"),
        pytest.param({"status": 503}, 503, "<!DOCTYPE", 0, id="unavailable"),
    ],
)
def test_a_wrong_answer(fault: dict[str, Any], status: int, beginning: str, consumed: int, aws: Emulator) -> None:
    token = aws.oauth_refresh_token()
    aws.fault("oauth:token", **fault)
    answer = refresh(aws, token)

    assert (answer.status, answer.text[: len(beginning)]) == (status, beginning)
    assert all(answer.headers[name.lower()] == value for name, value in fault.get("headers", {}).items())
    assert len(aws.family(token).consumed) == consumed


@pytest.mark.parametrize("member", ["expires_in", "refresh_token", "id_token"])
def test_an_answer_without_a_member(member: str, aws: Emulator) -> None:
    aws.fault("oauth:token", without=member)
    wanting, whole = (refresh(aws, aws.oauth_refresh_token()) for _ in range(2))

    assert whole.members - wanting.members == {member}


def test_a_token_of_20_kb(aws: Emulator) -> None:
    aws.fault("oauth:token", token_characters=20000)

    assert 20000 < len(refresh(aws, aws.oauth_refresh_token())["access_token"]) < 30000


def test_a_token_that_is_already_over(aws: Emulator) -> None:
    aws.fault("oauth:token", expired=True)
    answer = refresh(aws, aws.oauth_refresh_token())

    assert answer["expires_in"] == 0
    assert jwt.decode(answer["access_token"], options={"verify_signature": False})["exp"] < time.time()  # noqa: TID251 - a real server


def test_an_answer_can_be_late(aws: Emulator) -> None:
    aws.fault("oauth:token", delay_seconds=0.5)
    token, began = aws.oauth_refresh_token(), time.monotonic()
    refresh(aws, token)

    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize("fault", [{"without": "expires_in"}, {"token_characters": 1}])
def test_what_is_only_of_oauth_is_refused_for_aws(fault: dict[str, Any], aws: Emulator) -> None:
    with pytest.raises(ValueError, match="faults: only OAuth"):
        aws.fault("GetAccessToken", **fault)
