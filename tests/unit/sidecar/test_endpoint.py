import json
import logging
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keyturn.sidecar.credential_cache import CredentialCache, parse_credentials
from keyturn.sidecar.endpoint import ListenAddresses, serve_endpoint
from keyturn.sidecar.http_server import BindError
from tests.support.kubelet_mount import process
from tests.support.raw_http import send_raw

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DOCS = Path(__file__).parents[3] / "docs"
MONITORING = DOCS / "operations" / "monitoring.md"
TOKEN = "planted-authorization"
PORTS = ListenAddresses("127.0.0.1:0", "127.0.0.1:0")
UNAUTHORIZED = "the Authorization header does not match the token in the authorization file"
EXTERNAL = "requests through a proxy or with a Host that is not loopback are not allowed"
NOT_FOUND = "not found: the paths are /healthz, /readyz and /metrics\n"
AUTHORIZED = f"Host: localhost\r\nAuthorization: {TOKEN}\r\n"


def filled_cache(*, expired: bool = False) -> CredentialCache:
    credentials = parse_credentials(process(1, NOW + HOUR))
    return CredentialCache(lambda: NOW + HOUR if expired else NOW, credentials, failure="")


async def get(address: str, path: str) -> tuple[int, str]:
    status, _, body = await send_raw(address, f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")
    return status, body


def to_host(host: str) -> str:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: {TOKEN}\r\n\r\n"


def with_header(header: str) -> str:
    return f"GET / HTTP/1.1\r\n{AUTHORIZED}{header}\r\n\r\n"


def with_only(*headers: str) -> str:
    return "".join(["GET / HTTP/1.1\r\nHost: localhost\r\n", *(f"{header}\r\n" for header in headers), "\r\n"])


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(f"GET / HTTP/1.1\r\n{AUTHORIZED}\r\n", 200, id="the request of an SDK"),
        pytest.param(f"GET /any/path?a=b HTTP/1.1\r\n{AUTHORIZED}\r\n", 200, id="any path, any query"),
        pytest.param(f"GET / HTTP/1.0\r\n{AUTHORIZED}\r\n", 200, id="HTTP/1.0"),
        pytest.param(f"HEAD / HTTP/1.1\r\n{AUTHORIZED}\r\n", 200, id="HEAD"),
        pytest.param(with_header("Accept: text/html, image/gif"), 200, id="Accept is ignored"),
        pytest.param(with_header("Connection: Upgrade\r\nUpgrade: h2c"), 200, id="an upgrade is declined"),
        pytest.param(with_header("Expect: 100-continue"), 200, id="Expect without a body"),
        pytest.param(with_header("Expect: 100-continue\r\nContent-Length: 5"), 200, id="Expect with a body"),
        pytest.param(with_header("Content-Length: 0"), 200, id="empty body"),
        pytest.param(with_header("Content-Length: 5") + "12345", 200, id="body is not read"),
        pytest.param(to_host("127.0.0.1:9911"), 200, id="host: 127.0.0.1 and a port"),
        pytest.param(to_host("127.0.0.53"), 200, id="host: another loopback address"),
        pytest.param(to_host("[::1]:9911"), 200, id="host: IPv6"),
        pytest.param(to_host("LOCALHOST:80"), 200, id="host: upper case"),
        pytest.param(to_host("169.254.170.2"), 200, id="host: ECS"),
        pytest.param(to_host("169.254.170.23"), 200, id="host: EKS"),
        pytest.param(to_host("evil.example"), 403, id="host: DNS rebinding"),
        pytest.param(to_host("localhost.evil.example"), 403, id="host: only starts with localhost"),
        pytest.param(to_host("evil.example:127.0.0.1"), 403, id="host: only ends with a loopback address"),
        pytest.param(to_host("169.254.169.254"), 403, id="host: EC2 instance metadata"),
        pytest.param(to_host("10.0.0.7:9911"), 403, id="host: the pod's address"),
        pytest.param(to_host(""), 403, id="host: empty"),
        pytest.param(f"GET / HTTP/1.0\r\nAuthorization: {TOKEN}\r\n\r\n", 403, id="host: none in HTTP/1.0"),
        pytest.param(f"GET / HTTP/1.1\r\nAuthorization: {TOKEN}\r\n\r\n", 400, id="host: none in HTTP/1.1"),
        pytest.param(with_header("Host: localhost"), 400, id="host: two"),
        pytest.param(f"GET http://evil.example/ HTTP/1.1\r\n{AUTHORIZED}\r\n", 403, id="proxy request"),
        pytest.param(f"CONNECT localhost:80 HTTP/1.1\r\n{AUTHORIZED}\r\n", 403, id="tunnel request"),
        pytest.param(f"OPTIONS * HTTP/1.1\r\n{AUTHORIZED}\r\n", 403, id="OPTIONS *"),
        pytest.param(with_header("X-Forwarded-For: 127.0.0.1"), 403, id="forwarded by X-Forwarded-For"),
        pytest.param(with_header("X-FORWARDED-HOST: localhost"), 403, id="forwarded by X-Forwarded-Host"),
        pytest.param(with_header("Forwarded: for=127.0.0.1"), 403, id="forwarded by Forwarded"),
        pytest.param(with_header("Via: 1.1 proxy"), 403, id="forwarded by Via"),
        pytest.param(with_header("X-Forwarded: 1"), 200, id="X-Forwarded is not a proxy header"),
        pytest.param(f"POST / HTTP/1.1\r\n{AUTHORIZED}\r\n", 405, id="POST"),
        pytest.param(f"PUT / HTTP/1.1\r\n{AUTHORIZED}Content-Length: 99999999999\r\n\r\n", 405, id="a large PUT"),
        pytest.param(f"OPTIONS / HTTP/1.1\r\n{AUTHORIZED}\r\n", 405, id="OPTIONS"),
        pytest.param(f"get / HTTP/1.1\r\n{AUTHORIZED}\r\n", 405, id="get in lower case"),
        pytest.param(with_only(), 401, id="token: none"),
        pytest.param(with_only("Authorization:"), 401, id="token: empty"),
        pytest.param(with_only(f"Authorization: {TOKEN}x"), 401, id="token: longer"),
        pytest.param(with_only(f"Authorization: {TOKEN[:-1]}"), 401, id="token: shorter"),
        pytest.param(with_only(f"Authorization: {TOKEN.upper()}"), 401, id="token: upper case"),
        pytest.param(with_only(f"Authorization: Bearer {TOKEN}"), 401, id="token: with a scheme"),
        pytest.param(with_only("Authorization: \xe9\xff"), 401, id="token: not ASCII"),
        pytest.param(with_only(f"Authorization: {TOKEN}", f"Authorization: {TOKEN}"), 401, id="token: twice"),
        pytest.param(with_only(f"Authorization: {TOKEN}", "Authorization: x"), 401, id="token: two values"),
        pytest.param(with_only(f"Authorization : {TOKEN}"), 400, id="token: space before the colon"),
        pytest.param(with_only(f"Authorization:\r\n {TOKEN}"), 200, id="token: obsolete line folding"),
        pytest.param("\x16\x03\x01\x02\x00\x01\x00", 400, id="TLS"),
        pytest.param("\r\n\r\n\r\n", 400, id="empty lines"),
        pytest.param("\0" * 100, 400, id="zeros"),
        pytest.param("PRI * HTTP/2.0\r\n\r\n", 403, id="HTTP/2"),
        pytest.param("GET / HTTP/9.9\r\n\r\n", 403, id="invalid HTTP version"),
        pytest.param("GET /\r\n", 400, id="HTTP/0.9"),
        pytest.param(f"GET / HTTP/1.1\r\n{AUTHORIZED}", 400, id="incomplete request"),
        pytest.param(f"GET /{'x' * 7000} HTTP/1.1\r\n{AUTHORIZED}\r\n", 200, id="long request line"),
        pytest.param(f"GET /{'x' * 20_000} HTTP/1.1\r\n{AUTHORIZED}\r\n", 431, id="request line too long"),
        pytest.param(f"GET /{'x' * 400_000}", 431, id="request line without an end"),
        pytest.param("GET / HTTP/1.1\r\n" + "A: b\r\n" * 100_000, 431, id="headers without an end"),
        pytest.param(with_header("Content-Length: -1"), 400, id="negative length"),
        pytest.param(with_header("Content-Length: 1\r\nContent-Length: 2"), 400, id="two lengths"),
        pytest.param(with_header("Transfer-Encoding: gzip"), 501, id="unknown encoding"),
        pytest.param(with_header("Transfer-Encoding: chunked") + "zz", 200, id="chunked body is not read"),
    ],
)
async def test_request_has_expected_status(raw: str, status: int) -> None:
    async with serve_endpoint(PORTS, filled_cache(), TOKEN) as addresses:
        received, headers, body = await send_raw(addresses.credentials, raw)
        exposition = (await get(addresses.probes, "/metrics"))[1]

    assert received == status
    assert headers["content-type"] == "application/json"
    assert ("planted-secret-1" in body) == (status == 200 and not raw.startswith("HEAD"))
    assert TOKEN not in body
    assert f'keyturn_sidecar_requests_total{{code="{status}"}} 1\n' in exposition
    if status != 200:
        assert list(json.loads(body)) == ["code", "message"]


async def test_response_is_the_container_credentials_document() -> None:
    async with serve_endpoint(PORTS, filled_cache(), TOKEN) as addresses:
        _, headers, body = await send_raw(addresses.credentials, with_header("Accept: */*"))

    assert json.loads(body) == {
        "AccessKeyId": "ASIA1",
        "SecretAccessKey": "planted-secret-1",
        "Token": "planted-token-1",
        "Expiration": "2026-01-01T01:00:00Z",
    }
    assert headers == {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
    }


@pytest.mark.parametrize(
    ("cache", "reason"),
    [
        pytest.param(CredentialCache(lambda: NOW), "no credentials have been read yet", id="none"),
        pytest.param(filled_cache(expired=True), "the credentials expired at 2026-01-01T01:00:00Z", id="expired"),
    ],
)
async def test_missing_credentials_are_reported_with_the_reason(cache: CredentialCache, reason: str) -> None:
    async with serve_endpoint(PORTS, cache, TOKEN) as addresses:
        status, headers, body = await send_raw(addresses.credentials, with_header("Accept: */*"))
        ready = await get(addresses.probes, "/readyz")

    assert (status, headers["content-type"]) == (503, "application/json")
    assert json.loads(body)["code"] == "ServiceUnavailable"
    assert reason in json.loads(body)["message"]
    assert ready[0] == 503
    assert reason in ready[1]


async def test_path_that_is_not_utf_8_is_escaped() -> None:
    cache = CredentialCache(lambda: NOW, failure="cannot read /\udcff")
    async with serve_endpoint(PORTS, cache, TOKEN) as addresses:
        status, body = await get(addresses.probes, "/readyz")

    assert (status, body) == (503, "cannot read /\\udcff\n")


async def test_newly_published_credentials_are_served_immediately() -> None:
    cache = filled_cache()
    async with serve_endpoint(PORTS, cache, TOKEN) as addresses:
        cache.publish(parse_credentials(process(2, NOW + HOUR)))
        _, _, body = await send_raw(addresses.credentials, with_header("Accept: */*"))

    assert json.loads(body)["AccessKeyId"] == "ASIA2"


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        pytest.param("/healthz", 200, "ok\n", id="healthy"),
        pytest.param("/readyz?verbose", 200, "ok\n", id="ready"),
        pytest.param("/", 404, NOT_FOUND, id="another path"),
        pytest.param("/credentials", 404, NOT_FOUND, id="no credentials on this port"),
    ],
)
async def test_probes_have_expected_responses(path: str, status: int, body: str) -> None:
    async with serve_endpoint(PORTS, filled_cache(), TOKEN) as addresses:
        assert await get(addresses.probes, path) == (status, body)


async def test_probes_accept_get_from_any_host_without_a_token() -> None:
    async with serve_endpoint(PORTS, filled_cache(), TOKEN) as addresses:
        kubelet, *_ = await send_raw(addresses.probes, "GET /healthz HTTP/1.1\r\nHost: 10.0.0.7:9912\r\n\r\n")
        post, *_ = await send_raw(addresses.probes, "POST /healthz HTTP/1.1\r\nHost: 10.0.0.7:9912\r\n\r\n")

    assert (kubelet, post) == (200, 405)


async def test_metrics_are_exposed_and_documented() -> None:
    async def more() -> bytes:
        return b"more 1\n"

    async with serve_endpoint(PORTS, filled_cache(), TOKEN, more) as addresses:
        await send_raw(addresses.credentials, with_header("Accept: */*"))
        _, headers, body = await send_raw(addresses.probes, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")

    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert [line for line in body.splitlines() if not line.startswith("#")] == [
        'keyturn_sidecar_requests_total{code="200"} 1',
        f"keyturn_sidecar_credentials_expiration_timestamp_seconds {(NOW + HOUR).timestamp():.0f}",
        "more 1",
    ]
    assert set(re.findall("keyturn_sidecar_[a-z_]+", MONITORING.read_text())) == set(
        re.findall("keyturn_sidecar_[a-z_]+", body)
    )
    assert "planted" not in body


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        pytest.param(replace(PORTS, credentials="0.0.0.0:0"), "must be 127.0.0.1 or", id="all addresses"),
        pytest.param(replace(PORTS, credentials="[::]:0"), "must be 127.0.0.1 or", id="all IPv6 addresses"),
        pytest.param(replace(PORTS, credentials="10.0.0.7:80"), "must be 127.0.0.1", id="the pod's address"),
        pytest.param(replace(PORTS, credentials="localhost:80"), "must be 127.0.0.1", id="a host name"),
        pytest.param(replace(PORTS, credentials=":80"), "must be 127.0.0.1", id="no host"),
        pytest.param(replace(PORTS, credentials="127.0.0.1"), "it is not HOST:PORT", id="no port"),
        pytest.param(replace(PORTS, probes="127.0.0.1:65536"), "it is not HOST:PORT", id="port too high"),
        pytest.param(replace(PORTS, probes="192.0.2.1:0"), "cannot listen on 192.0.2.1:0: ", id="foreign address"),
        pytest.param(replace(PORTS, probes="nobody.invalid:0"), "cannot listen on nobody.inv", id="unknown host"),
    ],
)
async def test_invalid_listen_address_is_refused(addresses: ListenAddresses, reason: str) -> None:
    with pytest.raises(BindError, match=reason):
        async with serve_endpoint(addresses, filled_cache(), TOKEN):
            pass


async def test_probes_without_a_host_listen_on_ipv4_and_ipv6(unused_tcp_port: int) -> None:
    async with serve_endpoint(replace(PORTS, probes=f":{unused_tcp_port}"), filled_cache(), TOKEN):
        for host in ("127.0.0.1", "[::1]"):
            assert await get(f"{host}:{unused_tcp_port}", "/healthz") == (200, "ok\n")


async def test_port_in_use_is_refused_and_the_other_port_is_released() -> None:
    async with serve_endpoint(PORTS, filled_cache(), TOKEN) as addresses:
        with pytest.raises(BindError, match=f"cannot listen on {addresses.probes}: Address already in use"):
            async with serve_endpoint(replace(PORTS, probes=addresses.probes), filled_cache(), TOKEN):
                pass
        assert await get(addresses.probes, "/healthz") == (200, "ok\n")
    async with serve_endpoint(addresses, filled_cache(), TOKEN) as again:
        assert again == addresses


async def test_ipv6_loopback_is_served() -> None:
    async with serve_endpoint(replace(PORTS, credentials="[::1]:0"), filled_cache(), TOKEN) as addresses:
        status, *_ = await send_raw(addresses.credentials, to_host(addresses.credentials))

    assert addresses.credentials.startswith("[::1]:")
    assert status == 200


async def test_refusal_is_logged_once_a_minute_per_status(caplog: pytest.LogCaptureFixture) -> None:
    moment = NOW
    cache = replace(filled_cache(), now=lambda: moment)
    async with serve_endpoint(PORTS, cache, TOKEN) as addresses:
        for later in (0, 30, 59, 60, 100, -30):
            moment = NOW + timedelta(seconds=later)
            await send_raw(addresses.credentials, with_only("Authorization: planted"))
        await send_raw(addresses.credentials, to_host("planted.example"))
        cache.credentials = None
        await send_raw(addresses.credentials, with_header("Accept: */*"))

    assert [line for line in caplog.messages if line.startswith("refused")] == [
        *[f"refused a request with HTTP 401: {UNAUTHORIZED}"] * 3,
        f"refused a request with HTTP 403: {EXTERNAL}",
    ]
    assert "planted" not in caplog.text


async def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve_endpoint(PORTS, filled_cache(), TOKEN) as addresses:
        for raw in (
            with_header("Accept: */*"),
            to_host("evil.example"),
            with_only("Authorization: planted"),
            "planted",
        ):
            await send_raw(addresses.credentials, raw)

    assert "serving probes and metrics on 127.0.0.1:" in caplog.text
    assert "planted" not in caplog.text
