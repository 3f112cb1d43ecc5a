from collections.abc import Iterator

import jwt
import pytest

from tests.support import npm
from tests.support.emulator.oauth.client import HttpResponse, basic_authorization, send
from tests.support.issuer.server import AUDIENCE, Issuer, running_issuer

needs_node = pytest.mark.skipif(bool(npm.missing()), reason=npm.missing())


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as issuer:
        yield issuer


def refresh(issuer: Issuer, token: str, secret: str = "", **form: str) -> HttpResponse:
    form = {"grant_type": "refresh_token", "refresh_token": token, **form}
    headers = basic_authorization(issuer.client_id, secret or issuer.client_secret)
    return send(issuer.token_url, issuer.ca, form, headers)


@needs_node
def test_reuse_of_a_rotated_token_revokes_the_family(issuer: Issuer) -> None:
    before, other = issuer.counts(), issuer.refresh_token()
    first = issuer.refresh_token()
    second = refresh(issuer, first)["refresh_token"]
    third = refresh(issuer, second)["refresh_token"]
    responses = [refresh(issuer, token) for token in (first, third)]
    counts = {name: count - before[name] for name, count in issuer.counts().items()}

    assert [(it.status, it["error"]) for it in responses] == [(400, "invalid_grant")] * 2
    assert counts == {"consumed": 2, "refused": 2, "revoked": 1}
    assert refresh(issuer, other).status == 200


@needs_node
def test_access_token_for_aws_is_a_jwt_of_the_published_keys(issuer: Issuer) -> None:
    second = refresh(issuer, issuer.refresh_token(jwt=True))["refresh_token"]
    token, key = refresh(issuer, second)["access_token"], jwt.PyJWK(issuer.jwks()["keys"][0])

    assert jwt.decode(token, key, ["RS256"], audience=AUDIENCE, issuer=issuer.url)["sub"] == "demo-user"


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert npm.missing() == "node is not installed and npm is not installed"
