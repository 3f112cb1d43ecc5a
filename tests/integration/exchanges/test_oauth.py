import ssl
from typing import Any

import pytest
from aiohttp import web

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.issuer_http import IssuerClient
from keyturn.exchanges.registry import exchange
from keyturn.metrics import Metrics
from tests.support.certificates import issue_loopback_certificate
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, MINUTE, SECOND, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_ID, CLIENT_SECRET, NON_ROTATING_CLIENT_ID
from tests.support.exchange_steps import context, issuer_client
from tests.support.tls import served

OPERATION = "oauth:token"
SECRET_FROM = {"secretKeyRef": {"name": "client", "key": "client_secret"}}
CA_FROM = {"secretKeyRef": {"name": "ca", "key": "ca.crt"}}


def refresh(emulator: Emulator, *before: dict[str, Any], **changes: Any) -> Request:
    """A request whose last exchange is a refresh at the emulator's issuer; None removes a field."""
    step = {
        "tokenUrl": f"{emulator.issuer_url}/token",
        "grantType": "refresh_token",
        "clientId": CLIENT_ID,
        "clientSecretFrom": SECRET_FROM,
        "caBundleFrom": CA_FROM,
    } | changes
    given = {key: value for key, value in step.items() if value is not None}
    return request(exchanges=[*before, {"oauthToken": given}])


class Asking:
    """Asks the emulator's issuer, as the spine does."""

    def __init__(self, client: Aws, emulator: Emulator) -> None:
        self._client, self._emulator, self._web = client, emulator, issuer_client()
        self.values = {"client": CLIENT_SECRET, "ca": emulator.ca}

    async def call(self, token: str, issuers: IssuerClient | None = None, **changes: Any) -> PipelineValues:
        wanted = refresh(self._emulator, **changes)
        outside = context(self._client, issuers or self._web, self.values)
        return await exchange(outside, wanted, wanted.spec.exchanges[0], PipelineValues(Token(token)))

    async def failing(self, **changes: Any) -> KeyturnError:
        with pytest.raises(KeyturnError) as raised:
            await self.call(self._emulator.oauth_refresh_token(), **changes)
        return raised.value


@pytest.fixture
def asking(client: Aws, emulator: Emulator, all_closed: None) -> Asking:
    return Asking(client, emulator)


@pytest.mark.parametrize("how", [None, "client_secret_basic", "client_secret_post"])
async def test_a_refresh_token_becomes_an_access_token(how: str | None, asking: Asking, emulator: Emulator) -> None:
    before = emulator.oauth_refresh_token()
    held = await asking.call(before, clientAuthentication=how)

    assert held.access_token
    assert held.id_token
    assert held.refresh_token not in (None, before)
    assert {held.access_token.value, held.id_token.value, held.refresh_token} <= {*emulator.secrets()}
    assert emulator.family(before).consumed == [0]


async def test_what_was_held_stays(asking: Asking, client: Aws, emulator: Emulator) -> None:
    wanted, keys = refresh(emulator), Credentials("AKIA", "key")
    before = PipelineValues(Token(emulator.oauth_refresh_token()), credentials=keys)
    held = await exchange(context(client, issuer_client(), asking.values), wanted, wanted.spec.exchanges[0], before)

    assert (held.source_token, held.credentials) == (before.source_token, keys)


async def test_the_answered_token_is_the_next_to_be_sent(asking: Asking, emulator: Emulator) -> None:
    token = first = emulator.oauth_refresh_token()
    for _ in range(5):
        token = (await asking.call(token)).refresh_token or ""

    assert emulator.family(first).consumed == [0, 1, 2, 3, 4]
    assert emulator.family(first).reuses == 0


async def test_an_issuer_that_does_not_rotate_answers_no_refresh_token(asking: Asking, emulator: Emulator) -> None:
    token = emulator.oauth_refresh_token(NON_ROTATING_CLIENT_ID)

    assert (await asking.call(token, clientId=NON_ROTATING_CLIENT_ID)).refresh_token is None


@pytest.mark.parametrize("how", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        pytest.param("a client:of 1%", "p:a s&s=w+o%r/d", id="signs of URLs and of Basic"),
        pytest.param("acme", "pässwörd-東", id="other than ASCII"),
        pytest.param("~!'()*", "-._~", id="what encoders do not agree about"),
    ],
)
async def test_odd_characters_of_a_client_arrive(
    how: str, client_id: str, secret: str, asking: Asking, emulator: Emulator
) -> None:
    emulator.control("POST", "oauth-clients", client_id=client_id, client_secret=secret)
    asking.values["client"] = secret

    assert await asking.call(emulator.oauth_refresh_token(client_id), clientId=client_id, clientAuthentication=how)


async def test_the_expiry_counts_from_the_request(asking: Asking, emulator: Emulator) -> None:
    emulator.settings(oauth_access_seconds=1800)
    emulator.fault(OPERATION, delay_seconds=0.5)
    before = real_now()
    held = await asking.call(emulator.oauth_refresh_token())

    assert held.access_token
    assert held.access_token.expires_at
    assert 0 * SECOND <= held.access_token.expires_at - before - 30 * MINUTE < 0.4 * SECOND


async def test_without_expires_in_it_is_that_of_the_token(asking: Asking, emulator: Emulator) -> None:
    emulator.fault(OPERATION, without="expires_in")
    held = await asking.call(emulator.oauth_refresh_token())

    assert held.access_token
    assert held.access_token.expires_at
    assert abs(held.access_token.expires_at - real_now() - HOUR) < 5 * SECOND


async def test_a_token_of_20_kb_is_taken(asking: Asking, emulator: Emulator) -> None:
    emulator.fault(OPERATION, token_characters=20_000)
    held = await asking.call(emulator.oauth_refresh_token())

    assert held.access_token
    assert len(held.access_token.value) > 20_000


async def test_a_token_that_is_over_already_is_handed_on(asking: Asking, emulator: Emulator) -> None:
    emulator.fault(OPERATION, expired=True)
    held = await asking.call(emulator.oauth_refresh_token())

    assert held.access_token
    assert held.access_token.expires_at
    assert held.access_token.expires_at < real_now()
    assert held.refresh_token


async def test_a_scope_is_asked_for(asking: Asking, emulator: Emulator) -> None:
    narrow = await asking.call(emulator.oauth_refresh_token(scope="openid other"), scope=["other"])
    error = await asking.failing(scope=["more", "than granted"[:4]])

    assert narrow.id_token is None
    assert (error.reason, "invalid_scope" in error.message) == ("InvalidSpec", True)


@pytest.mark.parametrize("missing", ["refresh_token", "access_token"])
async def test_an_answer_with_only_one_of_the_tokens_is_taken(missing: str, asking: Asking, emulator: Emulator) -> None:
    emulator.fault(OPERATION, without=missing)
    held = await asking.call(emulator.oauth_refresh_token())

    assert (held.refresh_token is None, held.access_token is None) == (
        missing == "refresh_token",
        missing == "access_token",
    )


@pytest.mark.parametrize("status", [400, 200, 401, 500], ids=lambda status: f"HTTP {status}")
@pytest.mark.parametrize(
    ("code", "reason", "outcome_unknown"),
    [
        ("invalid_request", "InvalidSpec", False),
        ("invalid_client", "AccessDenied", False),
        ("invalid_grant", "SourceInvalid", False),
        ("unauthorized_client", "AccessDenied", False),
        ("unsupported_grant_type", "InvalidSpec", False),
        ("invalid_scope", "InvalidSpec", False),
        ("slow_down", "Throttled", False),
        ("temporarily_unavailable", "Unavailable", False),
        ("server_error", "Unavailable", True),
    ],
)
async def test_each_error(
    code: str, reason: str, status: int, asking: Asking, emulator: Emulator, *, outcome_unknown: bool
) -> None:
    emulator.fault(OPERATION, code=code, status=status, message="planted", members={"error_uri": "planted"})
    error = await asking.failing()

    assert (error.reason, doubtful(error)) == (reason, outcome_unknown)
    assert error.message.startswith(f"127.0.0.1: {code}")
    assert "planted" not in error.message
    assert emulator.calls(OPERATION) == 1


@pytest.mark.parametrize(
    ("status", "reason", "says", "outcome_unknown"),
    [
        pytest.param(400, "SourceInvalid", ": an error of its own; is tokenUrl right?", False, id="400: it refused"),
        pytest.param(200, "Unavailable", " answered HTTP 200, and no token", True, id="200: nobody can tell"),
        pytest.param(500, "Unavailable", " answered HTTP 500, and no token", True, id="500: nobody can tell"),
    ],
)
async def test_an_error_of_no_table(
    status: int, reason: str, says: str, asking: Asking, emulator: Emulator, *, outcome_unknown: bool
) -> None:
    emulator.fault(OPERATION, code="planted", status=status)
    error = await asking.failing()

    assert (error.reason, doubtful(error)) == (reason, outcome_unknown)
    assert error.message == f"127.0.0.1{says}"


@pytest.mark.parametrize("status", [302, 400, 403, 404, 405])
async def test_what_is_no_token_endpoint(status: int, asking: Asking, emulator: Emulator) -> None:
    emulator.fault(OPERATION, status=status, headers={"Location": "/"})
    error = await asking.failing()

    assert (error.reason, emulator.calls(OPERATION)) == ("InvalidSpec", 1)
    assert error.message.startswith(f"127.0.0.1 answered HTTP {status} without an OAuth error; is tokenUrl")


@pytest.mark.parametrize(
    ("fault", "reason", "outcome_unknown"),
    [
        pytest.param({"body": "html"}, "Unavailable", True, id="a page"),
        pytest.param({"body": "empty"}, "Unavailable", True, id="an empty answer"),
        pytest.param({"status": 500}, "Unavailable", True, id="500"),
        pytest.param({"status": 502}, "Unavailable", True, id="502"),
        pytest.param({"status": 504, "body": "empty"}, "Unavailable", True, id="504"),
        pytest.param({"status": 503}, "Unavailable", False, id="503: it was not handled"),
        pytest.param({"status": 408}, "Unavailable", False, id="408: it was not handled"),
        pytest.param({"status": 429}, "Throttled", False, id="429: it was not handled"),
        pytest.param({"token_characters": 70_000}, "Unavailable", True, id="more than 64 KiB"),
        pytest.param({"drop": "after"}, "Unreachable", True, id="the lost answer"),
        pytest.param({"drop": "before"}, "Unreachable", True, id="dropped before: nobody can tell"),
    ],
)
async def test_an_answer_that_is_none(
    fault: dict[str, Any], reason: str, asking: Asking, emulator: Emulator, *, outcome_unknown: bool
) -> None:
    emulator.fault(OPERATION, **fault)
    error = await asking.failing()

    assert (error.reason, doubtful(error)) == (reason, outcome_unknown)
    assert isinstance(error, UnavailableError)
    assert emulator.calls(OPERATION) == 1


async def test_a_throttle_says_for_how_long_and_is_counted(asking: Asking, emulator: Emulator) -> None:
    emulator.fault(OPERATION, status=429, headers={"Retry-After": "17"})
    metrics = Metrics()
    error = await asking.failing(issuers=issuer_client(metrics=metrics))

    assert isinstance(error, ThrottledError)
    assert error.retry_after == 17 * SECOND
    assert metrics.registry.get_sample_value("keyturn_throttled_calls_total", {"service": "oauth"}) == 1


async def test_a_refused_connection_leaves_no_doubt(asking: Asking, unused_tcp_port: int) -> None:
    error = await asking.failing(tokenUrl=f"https://127.0.0.1:{unused_tcp_port}/token")

    assert (error.reason, doubtful(error)) == ("Unreachable", False)


async def test_an_authority_is_trusted_that_leaves_out_what_few_look_at(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, certified = ssl.create_default_context, issue_loopback_certificate(real_now(), plain=True)

    def as_python_3_13_does(*purpose: ssl.Purpose, cadata: str | None = None) -> ssl.SSLContext:
        context = made(*purpose, cadata=cadata)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    async def give(_: web.Request) -> web.Response:
        return web.json_response({"access_token": "planted", "expires_in": 60})

    monkeypatch.setattr(ssl, "create_default_context", as_python_3_13_does)
    asking.values["ca"] = certified.ca
    async with served(give, certified) as issuer:
        held = await asking.call("planted-refresh", tokenUrl=issuer.url())

    assert held.access_token


async def test_without_the_ca_the_issuer_is_not_reached(asking: Asking, emulator: Emulator) -> None:
    error = await asking.failing(caBundleFrom=None)

    assert (error.reason, doubtful(error), emulator.calls(OPERATION)) == ("Unreachable", False, 0)


@pytest.mark.parametrize("bundle", ["planted", "", "-----BEGIN CERTIFICATE-----\nplanted\n"])
async def test_a_ca_bundle_that_is_none(bundle: str, asking: Asking, emulator: Emulator) -> None:
    asking.values["ca"] = bundle
    error = await asking.failing()

    assert (error.reason, emulator.calls(OPERATION)) == ("InvalidSpec", 0)
    assert error.message == "caBundleFrom holds no certificates in PEM"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"clientSecretFrom": None}, "invalid_client", id="no secret"),
        pytest.param({"clientId": "other"}, "invalid_client", id="another client"),
        pytest.param({"clientId": NON_ROTATING_CLIENT_ID}, "invalid_grant", id="the token of another client"),
    ],
)
async def test_a_client_that_is_refused(changes: dict[str, Any], code: str, asking: Asking) -> None:
    error = await asking.failing(**changes)

    assert isinstance(error, RefusedError)
    assert error.message.startswith(f"127.0.0.1: {code}")


def doubtful(error: KeyturnError) -> bool:
    return isinstance(error, UnavailableError) and error.outcome_unknown
