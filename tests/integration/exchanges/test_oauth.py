import base64
import ssl
from typing import Any

import pytest
from aiohttp import web

from keyturn.api.times import whole_seconds
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.metrics import Metrics
from tests.support.cases import cases
from tests.support.certificates import issue_loopback_certificate
from tests.support.clock import real_now
from tests.support.crafted_certificates import crafted_certificate
from tests.support.dependencies import MINUTE, SECOND
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import NON_ROTATING_CLIENT_ID
from tests.support.exchange_steps import OAUTH_OPERATION, OauthIssuer, issuer_client
from tests.support.tls import CERTIFICATE, served

PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("method", [None, "client_secret_basic", "client_secret_post"])
async def test_refresh_token_is_exchanged_for_an_access_token(
    method: str | None, issuer: OauthIssuer, emulator: Emulator
) -> None:
    before = emulator.oauth_refresh_token()
    values = await issuer.refresh(before, clientAuthentication=method)

    assert values.access_token
    assert values.id_token
    assert values.refresh_token not in (None, before)
    assert {values.access_token.value, values.id_token.value, values.refresh_token} <= {*emulator.secrets()}
    assert emulator.family(before).consumed == [0]


async def test_other_pipeline_values_are_kept(issuer: OauthIssuer, emulator: Emulator) -> None:
    before = PipelineValues(Token(emulator.oauth_refresh_token()), credentials=Credentials("AKIA", "key"))
    values = await issuer.call(before)

    assert (values.source_token, values.credentials) == (before.source_token, before.credentials)


async def test_returned_refresh_token_is_valid_for_the_next_request(issuer: OauthIssuer, emulator: Emulator) -> None:
    token = first = emulator.oauth_refresh_token()
    for _ in range(5):
        token = (await issuer.refresh(token)).refresh_token or ""

    assert emulator.family(first).consumed == [0, 1, 2, 3, 4]
    assert emulator.family(first).reuses == 0


async def test_issuer_without_rotation_returns_no_refresh_token(issuer: OauthIssuer, emulator: Emulator) -> None:
    token = emulator.oauth_refresh_token(NON_ROTATING_CLIENT_ID)

    assert (await issuer.refresh(token, clientId=NON_ROTATING_CLIENT_ID)).refresh_token is None


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        pytest.param("a client:of 1%", "p:a s&s=w+o%r/d", id="reserved characters of URLs and basic authentication"),
        pytest.param("acme", "pässwörd-東", id="non-ASCII characters"),
        pytest.param("~!'()*", "-._~", id="characters that encoders treat differently"),
    ],
)
async def test_special_characters_in_client_credentials(
    method: str, client_id: str, secret: str, issuer: OauthIssuer, emulator: Emulator
) -> None:
    emulator.control("POST", "oauth-clients", client_id=client_id, client_secret=secret)
    issuer.values["client"] = secret

    assert await issuer.refresh(
        emulator.oauth_refresh_token(client_id), clientId=client_id, clientAuthentication=method
    )


async def test_expiry_counts_from_the_request(issuer: OauthIssuer, emulator: Emulator) -> None:
    emulator.settings(oauth_access_seconds=1800)
    emulator.fault(OAUTH_OPERATION, delay_seconds=0.5)
    before = whole_seconds(real_now())
    values = await issuer.refresh()

    assert values.access_token
    assert values.access_token.expires_at
    assert values.access_token.expires_at - before - 30 * MINUTE in (0 * SECOND, SECOND)


async def test_expired_token_is_passed_on(issuer: OauthIssuer, emulator: Emulator) -> None:
    emulator.fault(OAUTH_OPERATION, expired=True)
    values = await issuer.refresh()

    assert values.access_token
    assert values.access_token.expires_at
    assert values.access_token.expires_at < real_now()
    assert values.refresh_token


async def test_scope_is_sent(issuer: OauthIssuer, emulator: Emulator) -> None:
    narrowed = await issuer.refresh(emulator.oauth_refresh_token(scope="openid other"), scope=["other"])
    error = await issuer.fail_refresh(scope=["more", "than"])

    assert narrowed.id_token is None
    assert (error.reason, "invalid_scope" in error.message) == ("InvalidSpec", True)


@pytest.mark.parametrize("missing", ["refresh_token", "access_token"])
async def test_response_with_only_one_token_is_accepted(missing: str, issuer: OauthIssuer, emulator: Emulator) -> None:
    emulator.fault(OAUTH_OPERATION, without=missing)
    values = await issuer.refresh()

    assert (values.refresh_token is None, values.access_token is None) == (
        missing == "refresh_token",
        missing == "access_token",
    )


@pytest.mark.parametrize(
    ("code", "status", "reason", "outcome_unknown"),
    [
        ("invalid_request", 400, "InvalidSpec", False),
        ("invalid_client", 400, "AccessDenied", False),
        ("invalid_grant", 400, "SourceInvalid", False),
        ("unauthorized_client", 400, "AccessDenied", False),
        ("unsupported_grant_type", 400, "InvalidSpec", False),
        ("invalid_scope", 400, "InvalidSpec", False),
        ("slow_down", 400, "Throttled", False),
        ("temporarily_unavailable", 400, "Unavailable", False),
        ("server_error", 400, "Unavailable", False),
        ("server_error", 500, "Unavailable", True),
    ],
)
async def test_each_error(
    code: str, status: int, reason: str, issuer: OauthIssuer, emulator: Emulator, *, outcome_unknown: bool
) -> None:
    emulator.fault(OAUTH_OPERATION, code=code, status=status, message="planted", members={"error_uri": "planted"})
    error = await issuer.fail_refresh()

    assert (error.reason, is_outcome_unknown(error)) == (reason, outcome_unknown)
    assert error.message.startswith(f"127.0.0.1: {code}")
    assert "planted" not in error.message
    assert emulator.calls(OAUTH_OPERATION) == 1


@pytest.mark.parametrize("status", [302, 400, 403, 404, 405])
async def test_url_that_is_no_token_endpoint(status: int, issuer: OauthIssuer, emulator: Emulator) -> None:
    emulator.fault(OAUTH_OPERATION, status=status, headers={"Location": "/"})
    error = await issuer.fail_refresh()

    assert (error.reason, emulator.calls(OAUTH_OPERATION)) == ("InvalidSpec", 1)
    assert error.message.startswith(f"127.0.0.1 returned HTTP {status} without an OAuth error; check that tokenUrl")


@pytest.mark.parametrize(
    ("fault", "reason", "outcome_unknown"),
    [
        pytest.param({"body": "html"}, "Unavailable", True, id="an HTML page"),
        pytest.param({"body": "empty"}, "Unavailable", True, id="an empty response"),
        pytest.param({"status": 503}, "Unavailable", False, id="503: not processed"),
        pytest.param({"status": 429}, "Throttled", False, id="429: not processed"),
        pytest.param({"token_characters": 70_000}, "Unavailable", True, id="more than 64 KiB"),
        pytest.param({"drop": "after"}, "Unreachable", True, id="a lost response"),
        pytest.param({"drop": "before"}, "Unreachable", True, id="a connection dropped before processing"),
    ],
)
async def test_unusable_response(
    fault: dict[str, Any], reason: str, issuer: OauthIssuer, emulator: Emulator, *, outcome_unknown: bool
) -> None:
    emulator.fault(OAUTH_OPERATION, **fault)
    error = await issuer.fail_refresh()

    assert (error.reason, is_outcome_unknown(error)) == (reason, outcome_unknown)
    assert isinstance(error, UnavailableError)
    assert emulator.calls(OAUTH_OPERATION) == 1


@cases(
    "status, headers",
    {
        "429": (429, {"Retry-After": "17"}),
        "503": (503, {"Retry-After": "17"}),
        "503 with a date, by the issuer's clock": (
            503,
            {"Retry-After": "Sun, 06 Nov 2033 08:49:54 GMT", "Date": "Sun, 06 Nov 2033 08:49:37 GMT"},
        ),
    },
)
async def test_throttling_error_has_retry_after_and_is_counted(
    status: int, headers: dict[str, str], issuer: OauthIssuer, emulator: Emulator
) -> None:
    emulator.fault(OAUTH_OPERATION, status=status, headers=headers)
    metrics = Metrics()
    issuer.issuers = issuer_client(metrics=metrics)
    error = await issuer.fail_refresh()

    assert isinstance(error, ThrottledError)
    assert error.retry_after == 17 * SECOND
    assert metrics.registry.get_sample_value("keyturn_throttled_calls_total", {"service": "oauth"}) == 1


async def test_ca_without_optional_extensions_is_trusted(issuer: OauthIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    original, certificate = ssl.create_default_context, issue_loopback_certificate(real_now(), plain=True)

    def strict_context(*purpose: ssl.Purpose, cadata: str | None = None) -> ssl.SSLContext:
        context = original(*purpose, cadata=cadata)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    async def respond(_: web.Request) -> web.Response:
        return web.json_response({"access_token": "planted", "expires_in": 60})

    monkeypatch.setattr(ssl, "create_default_context", strict_context)
    issuer.values["ca"] = certificate.ca
    async with served(respond, certificate) as server:
        values = await issuer.refresh("planted-refresh", tokenUrl=server.url())

    assert values.access_token


@pytest.mark.parametrize("comment", ["Autorité de certification", "認証局", "a comment in ASCII"])
async def test_ca_bundle_may_contain_comments(comment: str, issuer: OauthIssuer, emulator: Emulator) -> None:
    issuer.values["ca"] = f"# {comment}\n{emulator.ca}\n# {comment}\n"
    values = await issuer.refresh()

    assert values.access_token


@cases(
    "bundle, problem",
    {
        "text": ("planted", "no certificates in PEM"),
        "nothing": ("", "no certificates in PEM"),
        "incomplete": ("-----BEGIN CERTIFICATE-----\nplanted\n", "no certificates in PEM"),
        "damaged base64": (PEM.format("planted="), "a certificate that is damaged"),
        "no certificate in base64": (PEM.format("cGxhbnRlZA=="), "a certificate that is damaged"),
        "several certificates in one block": (
            PEM.format(base64.b64encode(ssl.PEM_cert_to_DER_cert(CERTIFICATE.ca) * 2).decode()),
            "a certificate that is damaged",
        ),
        "too many": (PEM.format("") * 301, "301 certificates; at most 300 are allowed"),
        "names without end": (
            PEM.format(base64.b64encode(b"\x30\x82\xf2\x30" + 31_000 * b"\x82\0").decode()),
            "certificates with more than 30000 names, extensions and other elements",
        ),
        "slow to decode": (
            crafted_certificate(1),
            "a certificate with explicit elliptic curve parameters; use one with a named curve",
        ),
    },
)
async def test_invalid_ca_bundle_is_invalid_spec(
    bundle: str, problem: str, issuer: OauthIssuer, emulator: Emulator
) -> None:
    issuer.values["ca"] = bundle
    error = await issuer.fail_refresh()

    assert (error.reason, emulator.calls(OAUTH_OPERATION)) == ("InvalidSpec", 0)
    assert error.message == f"caBundleFrom contains {problem}"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"clientSecretFrom": None}, "invalid_client", id="no secret"),
        pytest.param({"clientId": "other"}, "invalid_client", id="another client"),
        pytest.param({"clientId": NON_ROTATING_CLIENT_ID}, "invalid_grant", id="the token of another client"),
    ],
)
async def test_client_errors(changes: dict[str, Any], code: str, issuer: OauthIssuer) -> None:
    error = await issuer.fail_refresh(**changes)

    assert isinstance(error, RefusedError)
    assert error.message.startswith(f"127.0.0.1: {code}")


def is_outcome_unknown(error: KeyturnError) -> bool:
    return isinstance(error, UnavailableError) and error.outcome_unknown
