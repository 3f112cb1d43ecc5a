import base64
import json
import ssl
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from tests.integration.emulator.conftest import refresh
from tests.support.certificates import issue_loopback_certificate
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_ID, CLIENT_SECRET, NON_ROTATING_CLIENT_ID
from tests.support.emulator.oauth.client import basic_authorization, send
from tests.support.emulator.oauth.refusal import OAuthError
from tests.support.emulator.oauth.token_families import Families, History

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BASIC = basic_authorization(CLIENT_ID, CLIENT_SECRET)


def test_a_refresh_rotates(aws: Emulator) -> None:
    first = aws.oauth_refresh_token()
    second = refresh(aws, first)
    third = refresh(aws, second["refresh_token"])

    assert (second.status, third.status, second["token_type"]) == (200, 200, "Bearer")
    assert len({first, second["refresh_token"], third["refresh_token"]}) == 3
    assert second.headers["cache-control"] == "no-store"
    assert aws.calls("oauth:refresh_token") == aws.calls("oauth:token") == 2


def test_a_spent_token_shown_again_ends_the_family(aws: Emulator) -> None:
    first = aws.oauth_refresh_token()
    second = refresh(aws, first)["refresh_token"]
    third = refresh(aws, second)["refresh_token"]
    refused = [refresh(aws, token) for token in (second, third, first)]

    assert {(answer.status, answer["error"]) for answer in refused} == {(400, "invalid_grant")}
    assert aws.family(third) == aws.family(first) == History(2, consumed=[0, 1], reuses=2, revoked=True)
    assert (aws.calls("oauth:refresh_token"), aws.calls("oauth:token")) == (2, 5)


def test_families_do_not_know_each_other(aws: Emulator) -> None:
    first, other = aws.oauth_refresh_token(), aws.oauth_refresh_token()
    refresh(aws, first)
    refresh(aws, first)

    assert refresh(aws, other).status == 200
    assert aws.family(other) == History(1, consumed=[0])


def test_within_the_grace_a_lost_answer_comes_again(aws: Emulator) -> None:
    aws.settings(oauth_grace_seconds=60)
    first = aws.oauth_refresh_token()
    second, again = refresh(aws, first), refresh(aws, first)

    assert again["refresh_token"] == second["refresh_token"]
    assert refresh(aws, again["refresh_token"]).status == 200
    assert refresh(aws, first).status == 400
    assert aws.family(first) == History(2, consumed=[0, 1], reuses=2, revoked=True)


@pytest.mark.parametrize(
    ("seconds", "revoked"),
    [
        pytest.param(59, False, id="within the grace"),
        pytest.param(60, True, id="after the grace"),
    ],
)
def test_the_grace_ends(seconds: int, *, revoked: bool) -> None:
    families = Families()
    family = families.start("client", "subject", frozenset())
    first = family.newest
    families.consume(first, NOW, rotates=True)

    try:
        families.check(first, "client", NOW + timedelta(seconds=seconds), timedelta(seconds=60))
    except OAuthError:
        assert revoked

    assert (family.history.revoked, family.history.reuses) == (revoked, 1)


def test_a_client_that_does_not_rotate(aws: Emulator) -> None:
    token, headers = (
        aws.oauth_refresh_token(NON_ROTATING_CLIENT_ID),
        basic_authorization(NON_ROTATING_CLIENT_ID, CLIENT_SECRET),
    )
    answers = [refresh(aws, token, headers) for _ in range(3)]

    assert [answer.status for answer in answers] == [200] * 3
    assert "refresh_token" not in answers[0].members
    assert aws.family(token) == History(consumed=[0, 0, 0])


def test_a_client_of_its_own(aws: Emulator) -> None:
    aws.control("POST", "oauth-clients", client_id="own", client_secret="own-secret", audience="somewhere")
    answer = refresh(aws, aws.oauth_refresh_token("own"), basic_authorization("own", "own-secret"))

    assert jwt.decode(answer["access_token"], options={"verify_signature": False})["aud"] == "somewhere"
    assert "own-secret" in aws.secrets()


def test_the_secret_may_be_in_the_body(aws: Emulator) -> None:
    form = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}

    assert refresh(aws, aws.oauth_refresh_token(), {}, **form).status == 200


@pytest.mark.parametrize(
    ("headers", "form", "code", "status"),
    [
        pytest.param(
            basic_authorization(CLIENT_ID, "wrong"), {}, "invalid_client", 401, id="a wrong secret, basic"
        ),
        pytest.param(
            {}, {"client_id": CLIENT_ID, "client_secret": "wrong"}, "invalid_client", 401, id="a wrong one, post"
        ),
        pytest.param(
            basic_authorization("unknown", CLIENT_SECRET), {}, "invalid_client", 401, id="an unknown client"
        ),
        pytest.param({"Authorization": "Basic ?"}, {}, "invalid_client", 401, id="basic that is no base64"),
        pytest.param({}, {}, "invalid_client", 401, id="nobody"),
        pytest.param({}, {"client_id": CLIENT_ID}, "invalid_client", 401, id="no secret"),
        pytest.param(
            {"Authorization": "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()},
            {},
            "invalid_client",
            401,
            id="basic that was not form-encoded",
        ),
        pytest.param(
            {"Authorization": "Bearer x"}, {}, "invalid_request", 400, id="neither basic_authorization nor post"
        ),
        pytest.param(BASIC, {"client_secret": CLIENT_SECRET}, "invalid_request", 400, id="basic and post"),
        pytest.param(BASIC, {"client_id": "other"}, "invalid_request", 400, id="two clients"),
        pytest.param(
            basic_authorization(NON_ROTATING_CLIENT_ID, CLIENT_SECRET),
            {},
            "invalid_grant",
            400,
            id="another client",
        ),
        pytest.param(BASIC, {"scope": "openid admin"}, "invalid_scope", 400, id="more scope than granted"),
        pytest.param(BASIC, {"grant_type": "password"}, "unsupported_grant_type", 400, id="another grant"),
        pytest.param(BASIC, {"grant_type": ""}, "invalid_request", 400, id="no grant"),
        pytest.param(BASIC, {"refresh_token": ""}, "invalid_request", 400, id="no refresh token"),
        pytest.param(BASIC, {"refresh_token": "unknown"}, "invalid_grant", 400, id="an unknown token"),
    ],
)
def test_what_is_refused_spends_nothing(
    headers: dict[str, str], form: dict[str, str], code: str, status: int, aws: Emulator
) -> None:
    token = aws.oauth_refresh_token()
    refused = refresh(aws, token, headers, **form)

    assert (refused.status, refused["error"]) == (status, code)
    assert ("www-authenticate" in refused.headers) is (status == 401)
    assert aws.family(token) == History()
    assert refresh(aws, token).status == 200


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        pytest.param([("grant_type", "refresh_token")] * 2, {}, id="a parameter twice"),
        pytest.param([("grant_type", "refresh_token")], {"Content-Type": "application/json"}, id="no form"),
    ],
)
def test_the_body_is_a_form_with_each_parameter_once(
    form: list[tuple[str, str]], headers: dict[str, str], aws: Emulator
) -> None:
    both = [*form, ("refresh_token", aws.oauth_refresh_token())]
    answer = send(f"{aws.issuer_url}/token", aws.ca, both, BASIC | headers)

    assert (answer.status, answer["error"]) == (400, "invalid_request")


def test_an_expired_refresh_token_is_refused(aws: Emulator) -> None:
    token = aws.oauth_refresh_token(expires_in=100)
    second = refresh(aws, token)["refresh_token"]
    aws.settings(clock_offset_seconds=101)

    assert refresh(aws, second)["error"] == "invalid_grant"
    assert not aws.family(second).revoked


def test_all_secrets_are_known_and_none_is_told(aws: Emulator) -> None:
    first = aws.oauth_refresh_token()
    answer = refresh(aws, first)
    issued = {first, CLIENT_SECRET, *(answer[name] for name in ("refresh_token", "access_token", "id_token"))}
    told = json.dumps(aws.recent_calls())

    assert issued <= set(aws.secrets())
    assert not [secret for secret in aws.secrets() if secret in told]
    assert (aws.recent_calls()[-1]["principal"], aws.recent_calls()[-1]["outcome"]) == (CLIENT_ID, "200")


def test_only_its_own_ca_vouches_for_it(aws: Emulator) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        send(f"{aws.issuer_url}/jwks", issue_loopback_certificate(NOW).ca)
