import asyncio
import re
import socket
import ssl
import struct
import threading
import traceback
from base64 import b64encode
from contextlib import ExitStack

import pytest
from aiohttp import web as server
from aiohttp.client_proto import ResponseHandler

from keyturn.api.times import whole_seconds
from keyturn.core.errors import RefusedError, ThrottledError, UnavailableError
from keyturn.core.proxies import Proxies
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import IssuerSettings
from keyturn.exchanges.issuer_http import Form, IssuerClient, IssuerResponse
from keyturn.exchanges.transmission import Transmission
from keyturn.metrics import Metrics
from tests.support.cases import cases
from tests.support.certificates import issue_loopback_certificate
from tests.support.clock import real_now
from tests.support.dependencies import SECOND
from tests.support.exchange_steps import issuer_client
from tests.support.garbage import counted_objects
from tests.support.proxy import Proxy, running_proxy
from tests.support.tls import CERTIFICATE, served

pytestmark = pytest.mark.usefixtures("all_closed")
TRUSTED = ssl.create_default_context(cadata=CERTIFICATE.ca)
URL, SAME_URL = "https://id.example/token", "https://ID.example:443/token"
FORM = "application/x-www-form-urlencoded"
LOOPBACK = IssuerSettings(allowed_private_networks=("127.0.0.0/8", "::1/128"))


async def post(url: str, client: IssuerClient | None = None, trusted: ssl.SSLContext = TRUSTED) -> IssuerResponse:
    """Send a form with a secret in it."""
    form = Form(url, [("refresh_token", "planted")], {"Authorization": "Basic planted"}, trusted)
    client = client or issuer_client()
    return await client.post("oauthToken", client.prepare(form), Transmission())


async def unavailable(
    url: str, client: IssuerClient | None = None, trusted: ssl.SSLContext = TRUSTED
) -> UnavailableError:
    with pytest.raises(UnavailableError) as raised:
        await post(url, client, trusted)
    return raised.value


async def respond(_: server.Request) -> server.Response:
    return server.json_response({"access_token": "a"}, headers={"Retry-After": "7"})


async def test_form_is_sent_and_json_is_returned() -> None:
    received: list[tuple[str, str, str | None]] = []

    async def record(request: server.Request) -> server.Response:
        received.append((request.method, await request.text(), request.headers.get("Authorization")))
        return await respond(request)

    async with served(record) as issuer:
        response = await post(issuer.url())

    assert received == [("POST", "refresh_token=planted", "Basic planted")]
    assert (response.status, response.members, response.host) == (200, {"access_token": "a"}, "127.0.0.1")
    assert response.retry_after == 7 * SECOND
    assert abs(real_now() - response.requested_at) < 5 * SECOND
    assert response.requested_at == whole_seconds(response.requested_at)


@cases(
    "query, expected",
    {
        "a parameter": ("?p=B2C_1_signin", "?p=B2C_1_signin"),
        "escapes and reserved characters": ("?p=a%2Fb%20c+d&q=/?@:%3D&r", "?p=a%2Fb%20c+d&q=/?@:%3D&r"),
        "characters that need an escape": ('?p=é"', "?p=%C3%A9%22"),
        "no query": ("", ""),
    },
)
async def test_query_is_sent_as_it_is_written(query: str, expected: str) -> None:
    targets: list[str] = []

    async def record(request: server.Request) -> server.Response:
        targets.append(request.raw_path)
        return await respond(request)

    async with served(record) as issuer:
        await post(f"{issuer.url()}{query}")
        path = targets[0].partition("?")[0]

    assert targets == [f"{path}{expected}"]


async def test_error_does_not_show_the_query() -> None:
    async with served(respond) as issuer:
        untrusted = await unavailable(f"{issuer.url()}?code=planted", trusted=ssl.create_default_context())
        refused = await unavailable(f"{issuer.url()}?code=planted", issuer_client(IssuerSettings()))
    with pytest.raises(RefusedError) as not_allowed:
        await post(f"{URL}?code=planted", issuer_client(IssuerSettings(allowed_hosts=("other.example",))))

    assert "planted" not in f"{untrusted.message} {refused.message} {not_allowed.value.message}"


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("127.0.0.1", id="an address in the URL"),
        pytest.param("localhost", id="a name that resolves to loopback"),
        pytest.param("[::ffff:127.0.0.1]", id="an IPv4-mapped address"),
    ],
)
async def test_loopback_is_refused_unless_allowed(host: str) -> None:
    async with served(respond) as issuer:
        error = await unavailable(issuer.url(host), issuer_client(IssuerSettings()))

        assert issuer.requests == 0
    assert error.message.endswith(" could not be reached")
    assert (error.reason, error.outcome_unknown) == ("Unreachable", False)


async def test_connection_uses_the_checked_address() -> None:
    async with served(respond) as issuer:
        assert (await post(issuer.url("localhost"))).status == 200


@pytest.mark.parametrize(
    ("hosts", "is_refused"),
    [
        pytest.param((), False, id="an empty list allows any"),
        pytest.param(("127.0.0.1", "other.example"), False, id="a list with the host"),
        pytest.param(("other.example",), True, id="a list without the host"),
        pytest.param(("0.0.0.1", "127.0.0.10"), True, id="a list with similar hosts"),
    ],
)
async def test_allowed_hosts(hosts: tuple[str, ...], *, is_refused: bool) -> None:
    client = issuer_client(
        IssuerSettings(allowed_hosts=hosts, allowed_private_networks=LOOPBACK.allowed_private_networks)
    )
    async with served(respond) as issuer:
        if is_refused:
            with pytest.raises(RefusedError, match=r"do not allow the host 127\.0\.0\.1") as error:
                await post(issuer.url(), client)
            assert error.value.reason == "InvalidSpec"
        else:
            await post(issuer.url(), client)

        assert issuer.requests == (0 if is_refused else 1)


async def test_redirect_is_not_followed() -> None:
    async def redirect(request: server.Request) -> server.Response:
        return server.Response(status=307, headers={"Location": f"{request.path}/elsewhere"})

    async with served(redirect) as issuer:
        response = await post(issuer.url())

        assert (response.status, issuer.requests) == (307, 1)


@pytest.mark.parametrize(
    ("size", "read"),
    [
        pytest.param(64 * 1024, True, id="64 KiB"),
        pytest.param(64 * 1024 + 1, False, id="a byte over 64 KiB"),
        pytest.param(50 * 1024 * 1024, False, id="50 MiB"),
    ],
)
async def test_response_is_limited_to_64_kib(size: int, *, read: bool) -> None:
    bytes_sent = 0

    async def send_large_body(request: server.Request) -> server.StreamResponse:
        nonlocal bytes_sent
        response = server.StreamResponse()
        await response.prepare(request)
        body = b'{"a": "%s"}' % (b"x" * (size - 9))
        for offset in range(0, len(body), 65536):
            await response.write(body[offset : offset + 65536])
            bytes_sent += 65536
            # The server does not notice otherwise that the client has closed the connection.
            await asyncio.sleep(0)
        return response

    async with served(send_large_body) as issuer:
        response = await post(issuer.url())

    assert (response.members is not None) is read
    assert bytes_sent < 10 * 1024 * 1024


PAGE = '<a href="/login?next=/&access_token=planted">Sign in</a>'


@pytest.mark.parametrize("content_type", ["application/json", FORM])
@pytest.mark.parametrize("text", ["", "<html>", "[]", '"a"', "null", "{", "\x00", PAGE, '{"access_token='])
async def test_body_that_is_neither_a_json_object_nor_a_form(text: str, content_type: str) -> None:
    async def send_text(_: server.Request) -> server.Response:
        return server.Response(body=text.encode(), headers={"Content-Type": content_type})

    async with served(send_text) as issuer:
        assert (await post(issuer.url())).members is None


@cases(
    "body, content_type, members",
    {
        "form": (b"access_token=a%2Bb&scope=", FORM, {"access_token": "a+b", "scope": ""}),
        "form with a charset": (b"error=bad_token", f"{FORM}; charset=utf-8", {"error": "bad_token"}),
        "form as plain text": (
            b"access_token=a&expires_in=60\n",
            "text/plain",
            {"access_token": "a", "expires_in": "60"},
        ),
        "form as HTML": (
            b"token_type=bearer&access_token=a",
            "text/html",
            {"token_type": "bearer", "access_token": "a"},
        ),
        "error as plain text": (b"error=bad_token", "text/plain", None),
        "form with a field that is not UTF-8": (b"access_token=a%FF", FORM, None),
        "form with too many fields": (b"a=b" + b"&c=d" * 100, FORM, None),
        "JSON as a form": (b'{"access_token": "a"}', FORM, {"access_token": "a"}),
        "JSON with a form in it": (b'{"hint": "?access_token=a"}', "text/plain", {"hint": "?access_token=a"}),
        "JSON after white space": (b'\r\n {"a": "b"}', "text/html", {"a": "b"}),
        "JSON after a byte order mark": (b'\xef\xbb\xbf{"a": "b"}', "application/json", {"a": "b"}),
        "JSON in ISO-8859-1": (b'{"access_token": "a", "note": "\xe9"}', "", {"access_token": "a", "note": "\ufffd"}),
    },
)
async def test_body_is_read_by_its_content(body: bytes, content_type: str, members: dict[str, str] | None) -> None:
    async def send_body(_: server.Request) -> server.Response:
        return server.Response(body=body, headers={"Content-Type": content_type})

    async with served(send_body) as issuer:
        assert (await post(issuer.url())).members == members


async def test_many_parameters_of_the_content_type_take_no_time() -> None:
    async def send_form(_: server.Request) -> server.Response:
        return server.Response(body=b"a=b", headers={"Content-Type": FORM.upper() + " " + ";" * 60_000})

    async with served(send_form) as issuer:
        response = await post(issuer.url(), issuer_client(timeout_seconds=5))

    assert response.members == {"a": "b"}


def test_requests_to_an_issuer_are_limited() -> None:
    client = issuer_client()
    with client.reserve(URL, "billing", "acme-0001"), client.reserve(SAME_URL, "billing", "acme-0001"):
        with pytest.raises(ThrottledError) as raised, client.reserve(URL, "billing", "acme-0001"):
            pass
        for other in (f"{URL}/other", "https://id.example:8443/token", "https://other.example/token"):
            with client.reserve(other, "billing", "acme-0001"):
                pass
    with client.reserve(URL, "billing", "acme-0001"):
        pass

    assert (raised.value.nothing_sent, raised.value.retry_after) == (True, 0.5 * SECOND)
    assert raised.value.message == "id.example is busy with other requests from Keyturn"


def test_limit_for_an_issuer_is_a_setting() -> None:
    client = issuer_client(IssuerSettings(max_concurrent_requests=3))
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(client.reserve(URL, "billing", "acme-0001"))
        with pytest.raises(ThrottledError):
            stack.enter_context(client.reserve(URL, "billing", "acme-0001"))


def test_limits_of_idle_issuers_are_dropped() -> None:
    client = issuer_client()
    for number in range(100):
        with client.reserve(f"https://{number}.example/token", "billing", "acme-0001"):
            pass

    assert len(client._limiters) == 0


async def test_slow_issuer_times_out() -> None:
    async def respond_late(request: server.Request) -> server.Response:
        while request.transport:  # noqa: ASYNC110 - there is no event for the end of the connection
            await asyncio.sleep(0.02)
        return await respond(request)

    async with served(respond_late) as issuer:
        error = await unavailable(issuer.url(), issuer_client(timeout_seconds=2))

    assert error.message == "127.0.0.1 returned no complete response (TimeoutError)"
    assert error.outcome_unknown


async def test_unreachable_hosts_share_one_message_and_the_log_has_the_cause(
    unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    other = ssl.create_default_context(cadata=issue_loopback_certificate(real_now()).ca)
    async with served(respond) as issuer:
        errors = [
            await unavailable(f"https://127.0.0.1:{unused_tcp_port}/token"),
            await unavailable(issuer.url(), trusted=other),
            await unavailable(issuer.url(), issuer_client(IssuerSettings())),
            await unavailable(issuer.url("localhost"), issuer_client(IssuerSettings())),
        ]
        assert issuer.requests == 0
    unknown_host = await unavailable("https://unknown.invalid/token")

    assert {error.message for error in errors} == {
        f"{host} could not be reached" for host in ("127.0.0.1", "localhost")
    }
    not_allowed = "its address is not public and not in issuers.allowedPrivateNetworks"
    starts = [
        "Connect call failed",
        "its certificate is not trusted",
        *[not_allowed] * 2,
        "its name cannot be resolved",
    ]
    causes = [record.getMessage().partition(" could not be reached: ")[2] for record in caplog.records]
    assert [cause[: len(start)] for cause, start in zip(causes, starts, strict=True)] == starts
    assert unknown_host.message == "unknown.invalid could not be reached"
    assert {error.outcome_unknown for error in [*errors, unknown_host]} == {False}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_issuer_that_requires_a_client_certificate_consumes_nothing(version: ssl.TLSVersion) -> None:
    """In TLS 1.3, the client learns that it needs a certificate only after it has sent its request."""
    context = CERTIFICATE.server_context()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED

    def refuse_handshake() -> None:
        connection, _ = listener.accept()
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            context.wrap_socket(connection, server_side=True)

    # Not an asyncio server, which closes the connection without an alert.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refused = asyncio.create_task(asyncio.to_thread(refuse_handshake))
        error = await unavailable(f"https://127.0.0.1:{listener.getsockname()[1]}/token")
        await refused

    assert (error.message, error.outcome_unknown) == ("127.0.0.1 could not be reached", False)


async def test_connection_that_is_reset_before_the_request_consumes_nothing() -> None:
    def reset() -> None:
        connection, _ = listener.accept()
        connection = CERTIFICATE.server_context().wrap_socket(connection, server_side=True)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        is_reset.set()

    class Begun(Transmission):
        def begin(self) -> None:
            super().begin()
            is_reset.wait(5)

    is_reset = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = asyncio.create_task(asyncio.to_thread(reset))
        client = issuer_client()
        form = Form(f"https://127.0.0.1:{listener.getsockname()[1]}/token", [], {}, TRUSTED)
        with pytest.raises(UnavailableError) as raised:
            await client.post("oauthToken", client.prepare(form), Begun())
        await accepted

    assert not raised.value.outcome_unknown


async def test_broken_response_leaves_the_outcome_unknown() -> None:
    async def abort_connection(request: server.Request) -> server.Response:
        if request.transport:
            request.transport.abort()
        return server.Response()

    async with served(abort_connection) as issuer:
        error = await unavailable(issuer.url())

    assert (error.reason, error.outcome_unknown, error.service) == ("Unreachable", True, "127.0.0.1")
    assert error.message == "127.0.0.1 returned no complete response (ServerDisconnectedError)"


@cases(
    "response",
    {
        "no HTTP": b"garbage",
        "an incomplete body": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        "no response": b"",
    },
)
async def test_connection_with_a_broken_response_is_freed_at_once(response: bytes) -> None:
    async def respond_and_close(request: server.Request) -> server.Response:
        if request.transport:
            request.transport.write(response)
            request.transport.close()
        return server.Response()

    async with served(respond_and_close) as issuer:
        with counted_objects(ResponseHandler) as count:
            for _ in range(3):
                await unavailable(issuer.url())

            assert count() == 0


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE"])
async def test_environment_variables_are_ignored(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    async with served(respond) as issuer:
        assert (await post(issuer.url())).status == 200


async def test_requests_are_counted_and_recovery_is_reported() -> None:
    metrics, service_health, recovered = Metrics(), ServiceHealth(), list[str]()
    service_health.on_recovery(recovered.append)
    client = issuer_client(metrics=metrics, service_health=service_health)
    async with served(respond) as issuer:
        await unavailable(issuer.url().replace("127.0.0.1", "localhost"), client, ssl.create_default_context())
        await post(issuer.url("localhost"), client)
    count = metrics.registry.get_sample_value

    assert recovered == ["localhost"]
    assert count("keyturn_exchanges_total", {"exchange": "oauthToken", "code": "OK"}) == 1
    assert count("keyturn_exchanges_total", {"exchange": "oauthToken", "code": "other"}) == 1
    assert count("keyturn_exchange_duration_seconds_count", {"exchange": "oauthToken"}) == 2


async def test_cancelled_request_is_not_counted_as_success() -> None:
    async def hang(request: server.Request) -> server.Response:
        await asyncio.sleep(1)
        return await respond(request)

    metrics = Metrics()
    async with served(hang) as issuer:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await post(issuer.url(), issuer_client(metrics=metrics))

    labels = {"exchange": "oauthToken", "code": "cancelled"}
    assert metrics.registry.get_sample_value("keyturn_exchanges_total", labels) == 1


def test_repr_shows_no_secrets() -> None:
    form = Form("https://issuer.example", [("refresh_token", "planted")], {"Authorization": "planted"})

    assert "planted" not in repr(form)
    assert "planted" not in repr(IssuerResponse("host", 200, {"access_token": "planted"}, SECOND, real_now()))


def behind(proxy: Proxy, no_proxy: str = "", networks: tuple[str, ...] = ()) -> IssuerClient:
    """A client with the proxy of the environment."""
    settings = IssuerSettings(allowed_hosts=("localhost",), allowed_private_networks=networks)
    environment = {"HTTPS_PROXY": proxy.url, "NO_PROXY": no_proxy}
    return issuer_client(settings, proxies=Proxies.from_environment(environment))


async def test_proxy_connects_by_host_name() -> None:
    async with served(respond) as issuer, running_proxy() as proxy:
        response = await post(issuer.url("localhost"), behind(proxy))

    assert (response.status, proxy.hosts) == (200, [f"localhost:{issuer.port}"])


async def test_proxy_is_a_setting() -> None:
    async with served(respond) as issuer, running_proxy() as proxy:
        await post(
            issuer.url("localhost"), issuer_client(IssuerSettings(allowed_hosts=("localhost",), proxy=proxy.url))
        )

    assert proxy.hosts == [f"localhost:{issuer.port}"]


async def test_proxy_with_credentials() -> None:
    async with served(respond) as issuer, running_proxy(credentials="us@er:p:/#?%@ wä") as proxy:
        assert (await post(issuer.url("localhost"), behind(proxy))).status == 200


async def test_refused_credentials_of_a_proxy_are_reported_and_not_shown() -> None:
    async with served(respond) as issuer, running_proxy(credentials="user:right") as proxy:
        error = await unavailable(issuer.url("localhost"), behind(Proxy(proxy.url.replace("right", "planted"))))

    assert (
        error.message == "localhost could not be reached: the proxy refused the credentials of HTTPS_PROXY (HTTP 407)"
    )
    assert not error.outcome_unknown
    shown = "".join(traceback.format_exception(error))
    assert not {"planted", b64encode(b"user:planted").decode()} & set(re.findall(r"[\w+/=]+", shown))


@pytest.mark.parametrize(
    ("no_proxy", "networks", "is_sent"),
    [
        pytest.param("localhost", ("127.0.0.0/8", "::1/128"), True, id="in an allowed network"),
        pytest.param("localhost", (), False, id="in no allowed network"),
        pytest.param("*", (), False, id="everything, in no allowed network"),
    ],
)
async def test_host_in_no_proxy_needs_an_allowed_address(
    no_proxy: str, networks: tuple[str, ...], *, is_sent: bool
) -> None:
    async with served(respond) as issuer, running_proxy() as proxy:
        client = behind(proxy, no_proxy, networks)
        if is_sent:
            await post(issuer.url("localhost"), client)
        else:
            await unavailable(issuer.url("localhost"), client)

    assert (issuer.requests, proxy.hosts) == (int(is_sent), [])


async def test_proxy_of_the_environment_needs_allowed_hosts() -> None:
    async with served(respond) as issuer, running_proxy() as proxy:
        client = issuer_client(IssuerSettings(), proxies=Proxies.from_environment({"HTTPS_PROXY": proxy.url}))
        error = await unavailable(issuer.url("localhost"), client)

    hint = "the proxy of the environment is used only if issuers.allowedHosts is set"
    assert error.message == f"localhost could not be reached directly; {hint}"
    assert (issuer.requests, proxy.hosts) == (0, [])


@pytest.mark.parametrize("status", [403, pytest.param(0, id="the proxy closes the connection")])
async def test_proxy_failure_leaves_no_unknown_outcome(status: int) -> None:
    async with served(respond) as issuer, running_proxy(status) as proxy:
        error = await unavailable(issuer.url("localhost"), behind(proxy))

    assert (error.reason, error.outcome_unknown, issuer.requests) == ("Unreachable", False, 0)


async def test_forbidden_host_is_not_requested_through_a_proxy() -> None:
    async with served(respond) as issuer, running_proxy() as proxy:
        with pytest.raises(RefusedError, match="do not allow the host"):
            await post(issuer.url(), behind(proxy))

    assert proxy.hosts == []
