from collections.abc import Iterator

import jwt
import pytest

from tests.support import npm
from tests.support.emulator.oauth.client import HttpResponse, basic_authorization, send
from tests.support.issuer.server import AUDIENCE, Issuer, running_issuer

pytestmark = pytest.mark.skipif(bool(npm.missing()), reason=npm.missing())


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


def refresh(issuer: Issuer, token: str, headers: dict[str, str] | None = None, **form: str) -> HttpResponse:
    asked = {"grant_type": "refresh_token", "refresh_token": token, **form}
    by_basic = basic_authorization(issuer.client_id, issuer.client_secret)
    return send(issuer.token_url, issuer.ca, asked, by_basic if headers is None else headers)


def test_two_refreshes_rotate(issuer: Issuer) -> None:
    first = issuer.refresh_token()
    second = refresh(issuer, first)
    third = refresh(issuer, second["refresh_token"])

    assert (second.status, third.status, second["expires_in"]) == (200, 200, 3600)
    assert len({first, second["refresh_token"], third["refresh_token"]}) == 3


def test_a_spent_token_shown_again_ends_the_family(issuer: Issuer) -> None:
    first = issuer.refresh_token()
    second = refresh(issuer, first)["refresh_token"]
    third = refresh(issuer, second)["refresh_token"]
    refused = [refresh(issuer, token) for token in (first, third)]

    assert [(answer.status, answer["error"]) for answer in refused] == [(400, "invalid_grant")] * 2


def test_families_do_not_know_each_other(issuer: Issuer) -> None:
    first, other = issuer.refresh_token(), issuer.refresh_token()
    refresh(issuer, first)
    refresh(issuer, first)

    assert refresh(issuer, other).status == 200


@pytest.mark.parametrize(
    ("secret", "form", "error", "status"),
    [
        pytest.param("wrong", {}, "invalid_client", 401, id="a wrong secret"),
        pytest.param("", {"scope": "openid admin"}, "invalid_scope", 400, id="more scope than granted"),
        pytest.param("", {"grant_type": "password"}, "unsupported_grant_type", 400, id="another grant"),
    ],
)
def test_what_is_refused_spends_nothing(
    secret: str, form: dict[str, str], error: str, status: int, issuer: Issuer
) -> None:
    token = issuer.refresh_token()
    refused = refresh(issuer, token, basic_authorization(issuer.client_id, secret or issuer.client_secret), **form)

    assert (refused.status, refused["error"]) == (status, error)
    assert refresh(issuer, token).status == 200


def test_an_id_token_comes_of_its_keys(issuer: Issuer) -> None:
    id_token = refresh(issuer, issuer.refresh_token())["id_token"]
    found = send(f"{issuer.url}/.well-known/openid-configuration", issuer.ca)
    keys = send(found["jwks_uri"], issuer.ca)["keys"]

    assert found["token_endpoint"] == issuer.token_url
    assert jwt.decode(id_token, jwt.PyJWK(keys[0]), ["RS256"], audience=issuer.client_id, issuer=issuer.url)


def test_an_access_token_for_aws_is_a_jwt_of_its_keys(issuer: Issuer) -> None:
    answer = refresh(issuer, issuer.refresh_token(jwt=True))
    again = refresh(issuer, answer["refresh_token"])["access_token"]
    key = jwt.PyJWK(issuer.jwks()["keys"][0])

    assert jwt.decode(again, key, ["RS256"], audience=AUDIENCE, issuer=issuer.url)["sub"] == "demo-user"


def test_what_became_of_tokens_is_counted() -> None:
    with running_issuer() as issuer:
        first = issuer.refresh_token()
        for token in (first, first, refresh(issuer, issuer.refresh_token())["refresh_token"]):
            refresh(issuer, token)

        assert issuer.counts() == {"consumed": 3, "refused": 1, "revoked": 1}


def test_the_secret_may_be_in_the_body(issuer: Issuer) -> None:
    shown = {"client_id": issuer.client_id, "client_secret": issuer.client_secret}

    assert refresh(issuer, issuer.refresh_token(), {}, **shown).status == 200
    assert refresh(issuer, issuer.refresh_token(), {}).status == 400


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert npm.missing() == "there is no node and there is no npm"
