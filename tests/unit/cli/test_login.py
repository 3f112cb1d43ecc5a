import asyncio
import http.client
import json
import math
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from aiohttp import web

from keyturn.api.source import SecretKeyRef
from keyturn.cli import MissingExtraError, now
from keyturn.cli.login.client import Client, ValueReader, authenticate
from keyturn.cli.login.code_flow import AuthorizationRequest, Listener
from keyturn.cli.login.device_flow import poll
from keyturn.cli.login.issuer import IssuerHttp, Response, discover, refusal
from keyturn.cli.login.plan import LoginError, LoginPlan, plan_login
from keyturn.cli.login.sign_in import LoginOptions, SignIn, prepare
from tests.support.cases import cases
from tests.support.cli import run_keyturn
from tests.support.client_key_forms import PEM
from tests.support.dependencies import REFRESH, manifest, request
from tests.support.manifests.clients import pipeline
from tests.support.manifests.parts import secret_at
from tests.support.manifests.tokens import APPLICATION, center, center_grant, oauth, token_exchange
from tests.support.tls import CERTIFICATE, SERVER_CONTEXT, served

ISSUER = "https://idp.example.com/realms/acme"
TOKEN_URL = f"{ISSUER}/protocol/openid-connect/token"
METADATA = {
    "issuer": ISSUER,
    "token_endpoint": TOKEN_URL,
    "authorization_endpoint": f"{ISSUER}/auth",
    "device_authorization_endpoint": f"{ISSUER}/device",
    "scopes_supported": ["openid", "profile", "offline_access"],
}
CONFIGURATION = f"{ISSUER}/.well-known/openid-configuration"
SOURCE = SecretKeyRef(name="license", key="license_token")
PLAN = LoginPlan({"refresh_token": SOURCE}, client_id="acme", token_url=TOKEN_URL)
REQUEST = AuthorizationRequest({"client_id": "acme"}, ISSUER)
READER = ValueReader(lambda ref: f"value-of-{ref.key}", lambda account: f"token of {account.name}")


class Issuer(IssuerHttp):
    """An issuer in memory: documents by URL, and the responses to forms, in order."""

    def __init__(self, documents: dict[str, Any] | None = None, *responses: Response | LoginError) -> None:
        self.documents, self.responses = documents or {}, list(responses)
        self.forms: list[Mapping[str, str]] = []
        self.clients: list[Client] = []

    def get(self, url: str) -> Response:
        return Response(200, self.documents[url]) if url in self.documents else Response(404, {})

    def post(self, _url: str, form: Mapping[str, str], client: Client) -> Response:
        self.forms.append(form)
        self.clients.append(client)
        response = self.responses.pop(0)
        if isinstance(response, LoginError):
            raise response
        return response


def client(plan: LoginPlan, reader: ValueReader = READER) -> Client:
    return authenticate(plan.client, plan.client_id, reader, now())


def key_client(**fields: Any) -> LoginPlan:
    return plan_login(request(**oauth(grantType="refresh_token", clientSecretFrom=None, **fields)))


def response_to(request: AuthorizationRequest, **changes: str) -> dict[str, list[str]]:
    return {name: [value] for name, value in ({"state": request.state, "code": "c0de"} | changes).items()}


@cases(
    "spec, members",
    {
        "refresh token": ({"exchanges": [REFRESH]}, {"refresh_token"}),
        "exchange of an access token": (token_exchange(), {"access_token"}),
        "exchange of an id token": (
            token_exchange(subjectTokenType="urn:ietf:params:oauth:token-type:id_token"), {"id_token"},
        ),
        "role with web identity": (
            {"exchanges": [{"assumeRoleWithWebIdentity": {"roleArn": "arn:aws:iam::111122223333:role/Reader"}}]},
            {"id_token"},
        ),
        "code of identity center": (
            center(codeVerifierFrom=secret_at("sign-in", "verifier"))
            | {"source": {"credentials": {"secretRef": {"name": "base"}}}},
            {"code", "code_verifier"},
        ),
    },
)  # fmt: skip
def test_result_is_what_the_first_exchange_uses(spec: dict[str, Any], members: set[str]) -> None:
    assert plan_login(request(**spec)).stores.keys() == members


def test_client_comes_from_the_exchange() -> None:
    spec = oauth(
        grantType="refresh_token", scope=["read"], resource=["https://api.example.com"],
        clientAuthentication="client_secret_post",
    )  # fmt: skip
    plan = plan_login(request(**spec))

    assert (plan.client_id, plan.token_url) == ("acme", "https://issuer.example/token")
    assert client(plan).fields == {"client_id": "acme", "client_secret": "value-of-client_secret"}
    assert (plan.scopes, plan.resources) == (("read",), ("https://api.example.com",))


def test_client_with_a_key_signs_a_new_assertion_for_each_request() -> None:
    plan = key_client(clientKeyFrom=secret_at("client", "key"), clientAssertion={"audience": ISSUER})
    clients = [client(replace(plan, client_id="other"), replace(READER, read=lambda _: PEM)) for _ in range(2)]
    claims = [jwt.decode(it.secret, options={"verify_signature": False}) for it in clients]

    assert [(it["iss"], it["aud"]) for it in claims] == [("other", ISSUER)] * 2
    assert claims[0]["jti"] != claims[1]["jti"]
    assert clients[0].fields["client_assertion"] == clients[0].secret
    assert clients[0].secret not in repr(clients[0])


@cases(
    "source, assertion",
    {
        "service account": ({"serviceAccount": {"name": "app", "audiences": [ISSUER]}}, "token of app"),
        "secret": ({"secretKeyRef": {"name": "federated", "key": "jwt"}}, "value-of-jwt"),
    },
)
def test_client_with_an_assertion_of_another_issuer_sends_it(source: dict[str, Any], assertion: str) -> None:
    assert client(key_client(clientAssertionFrom=source)).fields["client_assertion"] == assertion


def test_client_with_a_key_names_the_extra_that_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "keyturn.exchanges.client_assertion", raising=False)
    monkeypatch.setitem(sys.modules, "jwt", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'keyturn\[standalone\]'"):
        client(key_client(clientKeyFrom=secret_at("client", "key")))


def test_client_whose_key_is_not_a_key_is_refused() -> None:
    with pytest.raises(LoginError, match=r"clientKeyFrom \(key key of Secret client\) contains"):
        client(key_client(clientKeyFrom=secret_at("client", "key")))


def test_client_with_a_token_of_an_earlier_exchange_is_refused() -> None:
    spec = pipeline("accessToken", *oauth()["exchanges"], grantType="refresh_token")

    with pytest.raises(LoginError, match="which a sign-in does not have"):
        client(plan_login(request(**spec)))


@cases(
    "spec, message",
    {
        "license": ({}, "it comes from `aws license-manager create-token`"),
        "client credentials": (oauth() | {"source": {}}, "no exchange of this TokenRequest uses a user's token"),
        "service account": (
            {"source": {"token": {"serviceAccount": {"name": "app"}}},
             "exchanges": [{"assumeRoleWithWebIdentity": {"roleArn": "arn:aws:iam::111122223333:role/Reader"}}]},
            "the token of a ServiceAccount",
        ),
        "refresh token of identity center": (center_grant("refresh_token"), "use grantType authorization_code"),
        "code without a verifier": (
            center() | {"source": {"credentials": {"secretRef": {"name": "base"}}}}, "set codeVerifierFrom",
        ),
    },
)  # fmt: skip
def test_sign_in_that_is_not_possible_is_explained(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(LoginError, match=message):
        plan_login(request(**spec))


def test_application_of_identity_center_needs_an_authorization_endpoint() -> None:
    plan = LoginPlan({"code": SOURCE, "code_verifier": SOURCE}, client_id=APPLICATION)

    with pytest.raises(LoginError, match="set it with --authorization-endpoint"):
        prepare(plan, LoginOptions(), Issuer(), READER)


def test_code_is_stored_after_its_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that finds a new code sends it at once, with the verifier that is stored then."""
    plan = LoginPlan({"code": SOURCE, "code_verifier": SOURCE}, client_id=APPLICATION)
    sign_in = prepare(plan, LoginOptions(authorization_endpoint=f"{ISSUER}/auth"), Issuer(), READER)
    monkeypatch.setattr(SignIn, "_authorize", lambda _: ("code-1", REQUEST, ""))

    assert list(sign_in.run().items()) == [("code_verifier", REQUEST.code_verifier), ("code", "code-1")]


@cases(
    "url, token_url",
    {
        "openid": (CONFIGURATION, TOKEN_URL),
        "oauth": ("https://idp.example.com/.well-known/oauth-authorization-server/realms/acme", TOKEN_URL),
    },
)
def test_endpoints_are_found_from_the_token_endpoint(url: str, token_url: str) -> None:
    endpoints = discover(Issuer({url: METADATA}), token_url)

    assert (endpoints.authorization, endpoints.issuer) == (f"{ISSUER}/auth", ISSUER)


@cases(
    "change",
    {
        "token endpoint": {"token_endpoint": "https://evil.example.com/token"},
        "issuer": {"issuer": "https://other.example"},
    },
)
def test_metadata_of_another_issuer_is_ignored(change: dict[str, str]) -> None:
    issuer = Issuer({CONFIGURATION: METADATA | change})

    assert discover(issuer, TOKEN_URL).authorization == ""
    with pytest.raises(LoginError, match="publishes no metadata for this token endpoint"):
        discover(issuer, TOKEN_URL, ISSUER)


@pytest.mark.parametrize("url", ["https://[::1/token", "https://\u2100.example/token"])
def test_token_endpoint_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(LoginError, match="is not a valid URL"):
        discover(Issuer(), url)


@pytest.mark.parametrize(
    "url",
    ["http://idp.example.com/auth", "file:///etc/passwd#", "--version", "javascript:alert(1)//", r"\\host\share\x.exe"],
)
def test_browser_opens_only_an_https_url(url: str) -> None:
    issuer = Issuer({CONFIGURATION: METADATA | {"authorization_endpoint": url}})
    session = prepare(PLAN, LoginOptions(open_browser=False, timeout_seconds=0), issuer, READER)

    with pytest.raises(LoginError, match="is not an https URL"):
        session.run()


@cases(
    "token_url, question",
    {"known": (TOKEN_URL, "Sign in at idp.example.com and write a?"), "none": ("", "Sign in and write a?")},
)
def test_question_names_the_host(token_url: str, question: str) -> None:
    plan = replace(PLAN, token_url=token_url)

    assert prepare(plan, LoginOptions(), Issuer(), READER).question("a") == question


@cases(
    "token_url, authorization",
    {
        "google": ("https://oauth2.googleapis.com/token", "https://accounts.google.com/auth"),
        "entra": (
            "https://login.microsoftonline.com/0000/oauth2/v2.0/token", "https://login.microsoftonline.com/0000/v2.0/auth",
        ),
        "github": ("https://github.com/login/oauth/access_token", "https://github.com/login/oauth/authorize"),
    },
)  # fmt: skip
def test_endpoints_of_well_known_issuers_are_found(token_url: str, authorization: str) -> None:
    issuer = authorization.removesuffix("/auth")
    metadata = {"issuer": issuer, "token_endpoint": token_url, "authorization_endpoint": authorization}

    http = Issuer({f"{issuer}/.well-known/openid-configuration": metadata})
    assert discover(http, token_url).authorization == authorization


def test_authorization_request_has_the_challenge_of_the_verifier() -> None:
    # The example of RFC 7636 appendix B.
    request = AuthorizationRequest({"client_id": "acme"}, code_verifier="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    parameters = parse_qs(urlsplit(request.url("https://idp.example.com/auth?tenant=1", "http://127.0.0.1:1/")).query)

    assert parameters["code_challenge"] == ["E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"]
    assert parameters["tenant"] == ["1"]
    assert request.code_verifier not in repr(request)


@cases(
    "changes, message",
    {
        "refused": ({"error": "access_denied", "error_description": "not yours"}, "access_denied: not yours"),
        "another issuer": ({"iss": "https://evil.example.com"}, "another issuer"),
        "no code": ({"code": ""}, "has no code"),
    },
)
def test_authorization_response_without_a_code_of_this_issuer_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(LoginError, match=message):
        REQUEST.code(response_to(REQUEST, **changes))


def test_listener_takes_only_the_response_to_its_request() -> None:
    def get(path: str, **parameters: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", listener.server_port, timeout=5)
        connection.request("GET", f"{path}?{urlencode(parameters)}")
        return connection.getresponse().status

    with Listener("http://127.0.0.1:0/callback", REQUEST) as listener:
        # A browser opens connections in advance.
        with socket.create_connection(("127.0.0.1", listener.server_port)):
            assert get("/favicon.ico", state=REQUEST.state, code="icon") == 404
            assert get("/callback", state="of another sign-in", code="forged") == 404
            assert get("/callback", state=REQUEST.state, code="c0de") == 200
        assert listener.wait(5) == "c0de"


def test_listener_reports_that_nobody_signed_in() -> None:
    with Listener("http://localhost:0/", REQUEST) as listener, pytest.raises(LoginError, match="nobody signed in"):
        listener.wait(0.01)


def test_redirect_uri_must_be_on_loopback() -> None:
    with pytest.raises(LoginError, match="not on loopback"):
        Listener("https://app.example.com/callback", REQUEST)


PENDING = Response(400, {"error": "authorization_pending"})


def waits_while_polling(
    *responses: Response | LoginError, interval: float = 5, expires_in: float = 100, timeout: float = 300
) -> tuple[list[float], Response]:
    """Poll with these responses; returns the seconds between them, and the last one."""
    waits: list[float] = []
    device = Response(200, {"device_code": "d", "interval": interval, "expires_in": expires_in})
    now: Callable[[], float] = lambda: sum(waits)  # noqa: E731
    return waits, poll(Issuer({}, *responses), TOKEN_URL, device, Client, timeout, sleep=waits.append, clock=now)


def test_device_code_is_polled_as_often_as_the_issuer_allows() -> None:
    slow, tokens = Response(400, {"error": "slow_down"}), Response(200, {"refresh_token": "t"})

    assert waits_while_polling(PENDING, slow, LoginError("unreachable"), PENDING, tokens) == (
        [5, 5, 10, 20, 20],
        tokens,
    )


@pytest.mark.parametrize("status", [429, 502, 503])
def test_polling_continues_after_the_error_page_of_a_gateway(status: int) -> None:
    tokens = Response(200, {"refresh_token": "t"})

    assert waits_while_polling(Response(status, {}), PENDING, tokens) == ([5, 10, 10], tokens)


def test_client_authenticates_again_at_each_poll() -> None:
    issuer = Issuer({}, PENDING, Response(200, {"refresh_token": "t"}))
    clients = [Client(secret="first"), Client(secret="second")]
    poll(
        issuer, TOKEN_URL, Response(200, {"device_code": "d"}), partial(next, iter(clients)), 300, sleep=lambda _: None
    )

    assert issuer.clients == clients


def test_polling_ends_with_the_device_code() -> None:
    with pytest.raises(LoginError, match="expired before anybody signed in"):
        waits_while_polling(*[PENDING] * 10, interval=20)


def test_polling_ends_after_the_timeout() -> None:
    with pytest.raises(LoginError, match="nobody signed in within 60 s; use --timeout to wait longer"):
        waits_while_polling(*[PENDING] * 10, interval=20, timeout=60)


@pytest.mark.parametrize("value", [math.inf, 10**400, 1e300, math.nan, -math.inf, -1])
def test_polling_with_an_unusable_interval_and_lifetime_ends(value: float) -> None:
    tokens = Response(200, {"refresh_token": "t"})
    waits, response = waits_while_polling(tokens, interval=value, expires_in=value)

    assert (len(waits), response) == (1, tokens)
    assert 5 <= waits[0] <= 300


@cases(
    "url, message",
    {
        "damaged IPv6 address": ("https://[::1/token", "is not a valid URL"),
        "port that is not a number": ("https://127.0.0.1:x/token", "cannot be reached"),
        "path that is not ASCII": ("https://127.0.0.1:1/t\u00f6ken", "is not a valid URL"),
        "not https": ("http://127.0.0.1/token", "is not an https URL"),
    },
)
def test_url_that_cannot_be_requested_is_refused(url: str, message: str) -> None:
    with pytest.raises(LoginError, match=message):
        IssuerHttp().get(url)


@pytest.mark.parametrize(
    "line", [b'{"refresh_token": "planted"}', b"HTTP/planted 200 OK", b"planted", b"HTTP/1.1 planted"]
)
async def test_response_that_is_not_http_is_not_shown(line: bytes) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(line + b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0, ssl=SERVER_CONTEXT) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
        with pytest.raises(LoginError, match=r"/token: the response is not HTTP/1\.1\Z"):
            await asyncio.to_thread(IssuerHttp(CERTIFICATE.ca).get, url)


@cases(
    "bundle, is_accepted",
    {
        "a comment with an accent": (f"# \u00e9t\u00e9\n{CERTIFICATE.ca}", True),
        "nothing, which would mean the default certificates": ("", False),
        "only a comment": ("# none", False),
    },
)
async def test_ca_bundle_is_read_as_by_the_operator(bundle: str, *, is_accepted: bool) -> None:
    async def respond(_: web.Request) -> web.Response:
        return web.json_response({"issuer": "a"})

    async with served(respond) as server:
        if is_accepted:
            assert (await asyncio.to_thread(IssuerHttp(bundle).get, server.url())).text("issuer") == "a"
        else:
            with pytest.raises(LoginError, match="contains no valid PEM certificate"):
                IssuerHttp(bundle)


async def test_token_next_to_another_encoding_is_read() -> None:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=b'\xef\xbb\xbf{"refresh_token": "next", "scope": "\xe9"}')

    async with served(respond) as server:
        response = await asyncio.to_thread(IssuerHttp(CERTIFICATE.ca).get, server.url())

    assert response.text("refresh_token") == "next"


async def test_response_that_arrives_slowly_is_abandoned() -> None:
    has_ended = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while not has_ended.is_set():
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    async with served(drip) as server:
        started = time.monotonic()
        with pytest.raises(LoginError, match=r"/token has not responded within 0\.5 s"):
            await asyncio.to_thread(IssuerHttp(CERTIFICATE.ca, 0.5).get, server.url())
        has_ended.set()

    assert time.monotonic() - started < 5


def device_sign_in(response: Response, plan: LoginPlan = PLAN) -> tuple[Issuer, SignIn]:
    device = Response(
        200, {"device_code": "d", "user_code": "AB-CD", "verification_uri": f"{ISSUER}/d", "interval": 0.01}
    )
    issuer = Issuer({CONFIGURATION: METADATA}, device, response)
    return issuer, prepare(plan, LoginOptions(device=True), issuer, READER)


def test_refresh_token_is_requested_with_consent_to_offline_access() -> None:
    issuer, session = device_sign_in(Response(200, {"access_token": "a", "refresh_token": "r"}))

    assert session.run() == {"refresh_token": "r"}
    assert set(issuer.forms[0]["scope"].split()) == {"openid", "offline_access"}
    assert issuer.forms[0]["prompt"] == "consent"


@cases(
    "response, message",
    {
        "no refresh token": ({"access_token": "a"}, "no refresh token: request it with --scope offline_access"),
        "no token": ({}, "no token: the response has status 200"),
        "denied": ({"error": "access_denied"}, "refused the sign-in: access_denied"),
    },
)
def test_response_without_the_token_is_explained(response: dict[str, str], message: str) -> None:
    with pytest.raises(LoginError, match=message):
        device_sign_in(Response(200, response))[1].run()


def test_description_of_a_refusal_that_repeats_a_secret_is_not_shown() -> None:
    def response(sent: str) -> Response:
        description = "code c0de is used"
        return Response(400, {"error": "invalid_grant", "error_description": description}, ("", sent))

    assert refusal(response("verifier")) == "invalid_grant: code c0de is used"
    assert refusal(response("c0de")) == "invalid_grant"
    assert "c0de" not in repr(response("c0de"))


def test_error_description_of_the_issuer_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    LoginError(refusal(Response(400, {"error": "access_denied", "error_description": "\x1b]0;title\x07\r"}))).show()

    assert capsys.readouterr().err == "Error: access_denied: \\u001b]0;title\\u0007\\r\n"


@cases(
    "content, message",
    {
        "missing": (None, "No such file or directory"),
        "not text": (b"\xff", "not text in UTF-8"),
        "not a certificate": (b"CA", "the CA bundle contains no valid PEM certificate"),
    },
)
def test_unusable_ca_file_ends_with_one_sentence(content: bytes | None, message: str, tmp_path: Path) -> None:
    (tmp_path / "request.yaml").write_text(json.dumps(manifest(**oauth(grantType="refresh_token"))))
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    paths = [f"--filename={tmp_path}/request.yaml", f"--sources-dir={tmp_path}", f"--ca-file={tmp_path}/ca.pem"]
    result = run_keyturn("login", *paths)

    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert message in result.stderr
