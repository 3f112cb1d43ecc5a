import asyncio
import ssl

import pytest
from aiohttp import web as server

from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import IssuerSettings
from keyturn.exchanges.issuer_http import Form, IssuerClient, IssuerResponse
from keyturn.exchanges.transmission import Transmission
from keyturn.metrics import Metrics
from tests.support.certificates import issue_loopback_certificate
from tests.support.clock import real_now
from tests.support.dependencies import SECOND
from tests.support.exchange_steps import issuer_client
from tests.support.proxy import Proxy, running_proxy
from tests.support.tls import CERTIFICATE, served

pytestmark = pytest.mark.usefixtures("all_closed")
TRUSTED = ssl.create_default_context(cadata=CERTIFICATE.ca)
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
    assert (response.status, response.json, response.host) == (200, {"access_token": "a"}, "127.0.0.1")
    assert response.retry_after == 7 * SECOND
    assert abs(real_now() - response.requested_at) < 5 * SECOND


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
        pytest.param(("0.0.1", "127.0.0.10"), True, id="a list with similar hosts"),
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
        return response

    async with served(send_large_body) as issuer:
        response = await post(issuer.url())

    assert (response.json is not None) is read
    assert bytes_sent < 10 * 1024 * 1024


@pytest.mark.parametrize("text", ["", "<html>", "[]", '"a"', "null", "{", '{"a": "\ud800"}', "\x00", '{"a":NaN}'])
async def test_body_that_is_no_json_object(text: str) -> None:
    async def send_text(_: server.Request) -> server.Response:
        return server.Response(body=text.encode(errors="surrogatepass"))

    async with served(send_text) as issuer:
        assert (await post(issuer.url())).json is None


async def test_at_most_two_requests_are_in_flight_per_host() -> None:
    in_flight, max_in_flight = 0, 0

    async def respond_slowly(request: server.Request) -> server.Response:
        nonlocal in_flight, max_in_flight
        in_flight += 1
        max_in_flight = max(max_in_flight, in_flight)
        await asyncio.sleep(0.05)
        in_flight -= 1
        return await respond(request)

    client = issuer_client()
    async with served(respond_slowly) as issuer:
        await asyncio.gather(*(post(issuer.url(), client) for _ in range(6)))
        assert max_in_flight == 2

        await asyncio.gather(
            post(issuer.url(), client), post(issuer.url("localhost"), client), post(issuer.url(), client)
        )
        assert max_in_flight == 3


async def test_slots_of_idle_hosts_are_dropped() -> None:
    client = issuer_client()
    async with served(respond) as issuer:
        for host in ("localhost", "127.0.0.1"):
            await post(issuer.url(host), client)

    assert list(client._slots) == []


async def test_slow_issuer_and_its_queue_time_out() -> None:
    async def respond_late(request: server.Request) -> server.Response:
        await asyncio.sleep(1)
        return await respond(request)

    client = issuer_client(timeout_seconds=0.3, slot_seconds=0.1)
    async with served(respond_late) as issuer:

        async def post_once() -> tuple[str, bool]:
            error = await unavailable(issuer.url(), client)
            return error.message, error.outcome_unknown

        failures = await asyncio.gather(*(post_once() for _ in range(3)))
        received = issuer.requests

    lost = ("127.0.0.1 returned no complete response (TimeoutError)", True)
    assert failures == [lost, lost, ("127.0.0.1 is busy with other requests from Keyturn", False)]
    assert received == 2


async def test_unreachable_hosts_share_one_message(unused_tcp_port: int) -> None:
    other = ssl.create_default_context(cadata=issue_loopback_certificate(real_now()).ca)
    async with served(respond) as issuer:
        errors = [
            await unavailable(f"https://127.0.0.1:{unused_tcp_port}/token"),
            await unavailable(issuer.url(), trusted=other),
            await unavailable(issuer.url(), issuer_client(IssuerSettings())),
        ]
        assert issuer.requests == 0
    unknown_host = await unavailable("https://unknown.invalid/token")

    assert {error.message for error in errors} == {"127.0.0.1 could not be reached"}
    assert unknown_host.message == "unknown.invalid could not be reached"
    assert {error.outcome_unknown for error in [*errors, unknown_host]} == {False}


async def test_broken_response_leaves_the_outcome_unknown() -> None:
    async def abort_connection(request: server.Request) -> server.Response:
        if request.transport:
            request.transport.abort()
        return server.Response()

    async with served(abort_connection) as issuer:
        error = await unavailable(issuer.url())

    assert (error.reason, error.outcome_unknown, error.service) == ("Unreachable", True, "127.0.0.1")
    assert error.message == "127.0.0.1 returned no complete response (ServerDisconnectedError)"


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


def test_repr_shows_no_secrets() -> None:
    form = Form("https://issuer.example", [("refresh_token", "planted")], {"Authorization": "planted"})

    assert "planted" not in repr(form)
    assert "planted" not in repr(IssuerResponse("host", 200, {"access_token": "planted"}, SECOND, real_now()))


def behind(proxy: Proxy) -> IssuerClient:
    return issuer_client(IssuerSettings(allowed_hosts=("localhost",), proxy=proxy.url))


async def test_proxy_connects_by_host_name() -> None:
    async with served(respond) as issuer, running_proxy() as proxy:
        response = await post(issuer.url("localhost"), behind(proxy))

    assert (response.status, proxy.hosts) == (200, [f"localhost:{issuer.port}"])


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
