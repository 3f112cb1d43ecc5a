import json
import logging
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keyturn.sidecar.credential_cache import Held, served
from keyturn.sidecar.endpoint import Listening, serving
from keyturn.sidecar.listener import NotListeningError
from tests.support.kubelet_mount import process
from tests.support.raw_http import tell

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DOCS = Path(__file__).parents[3] / "docs"
MONITORING = DOCS / "operations" / "monitoring.md"
TOKEN = "planted-authorization"
ANYWHERE = Listening("127.0.0.1:0", "127.0.0.1:0")
AUTHORIZED = f"Host: localhost\r\nAuthorization: {TOKEN}\r\n"


def held(*, expired: bool = False) -> Held:
    return Held(lambda: NOW + HOUR if expired else NOW, served(process(1, NOW + HOUR)), trouble="")


async def get(to: str, path: str) -> tuple[int, str]:
    status, _, body = await tell(to, f"GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n")
    return status, body


def to(host: str) -> str:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: {TOKEN}\r\n\r\n"


def with_(header: str) -> str:
    return f"GET / HTTP/1.1\r\n{AUTHORIZED}{header}\r\n\r\n"


def showing(*headers: str) -> str:
    return "".join(["GET / HTTP/1.1\r\nHost: localhost\r\n", *(f"{header}\r\n" for header in headers), "\r\n"])


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(f"GET / HTTP/1.1\r\n{AUTHORIZED}\r\n", 200, id="as SDKs ask"),
        pytest.param(f"GET /any/path?a=b HTTP/1.1\r\n{AUTHORIZED}\r\n", 200, id="any path, any query"),
        pytest.param(f"GET / HTTP/1.0\r\n{AUTHORIZED}\r\n", 200, id="HTTP/1.0"),
        pytest.param(f"HEAD / HTTP/1.1\r\n{AUTHORIZED}\r\n", 200, id="HEAD"),
        pytest.param(with_("Accept: text/html, image/gif"), 200, id="Accept is not looked at"),
        pytest.param(with_("Connection: Upgrade\r\nUpgrade: h2c"), 200, id="an upgrade is not taken"),
        pytest.param(with_("Expect: 100-continue"), 200, id="one that waits to be told to go on"),
        pytest.param(with_("Expect: 100-continue\r\nContent-Length: 5"), 200, id="the same with a body to come"),
        pytest.param(with_("Content-Length: 0"), 200, id="an empty body"),
        pytest.param(with_("Content-Length: 5") + "12345", 200, id="a body is not read"),
        pytest.param(to("127.0.0.1:9911"), 200, id="host: 127.0.0.1 and a port"),
        pytest.param(to("127.0.0.53"), 200, id="host: another of loopback"),
        pytest.param(to("[::1]:9911"), 200, id="host: IPv6"),
        pytest.param(to("LOCALHOST:80"), 200, id="host: in capitals"),
        pytest.param(to("169.254.170.2"), 200, id="host: that of ECS"),
        pytest.param(to("169.254.170.23"), 200, id="host: that of EKS"),
        pytest.param(to("evil.example"), 403, id="host: a name that was bound anew"),
        pytest.param(to("localhost.evil.example"), 403, id="host: one that begins well"),
        pytest.param(to("evil.example:127.0.0.1"), 403, id="host: one that ends well"),
        pytest.param(to("169.254.169.254"), 403, id="host: the metadata of EC2"),
        pytest.param(to("10.0.0.7:9911"), 403, id="host: the pod's address"),
        pytest.param(to(""), 403, id="host: empty"),
        pytest.param(f"GET / HTTP/1.0\r\nAuthorization: {TOKEN}\r\n\r\n", 403, id="host: none in HTTP/1.0"),
        pytest.param(f"GET / HTTP/1.1\r\nAuthorization: {TOKEN}\r\n\r\n", 400, id="host: none in HTTP/1.1"),
        pytest.param(with_("Host: localhost"), 400, id="host: two"),
        pytest.param(f"GET http://evil.example/ HTTP/1.1\r\n{AUTHORIZED}\r\n", 403, id="asked as a proxy"),
        pytest.param(f"CONNECT localhost:80 HTTP/1.1\r\n{AUTHORIZED}\r\n", 403, id="asked for a tunnel"),
        pytest.param(f"OPTIONS * HTTP/1.1\r\n{AUTHORIZED}\r\n", 403, id="asked about itself"),
        pytest.param(with_("X-Forwarded-For: 127.0.0.1"), 403, id="forwarded by X-Forwarded-For"),
        pytest.param(with_("X-FORWARDED-HOST: localhost"), 403, id="forwarded by X-Forwarded-Host"),
        pytest.param(with_("Forwarded: for=127.0.0.1"), 403, id="forwarded by Forwarded"),
        pytest.param(with_("Via: 1.1 proxy"), 403, id="forwarded by Via"),
        pytest.param(with_("X-Forwarded: 1"), 200, id="a header that is not one of those"),
        pytest.param(f"POST / HTTP/1.1\r\n{AUTHORIZED}\r\n", 405, id="POST"),
        pytest.param(f"PUT / HTTP/1.1\r\n{AUTHORIZED}Content-Length: 99999999999\r\n\r\n", 405, id="a large PUT"),
        pytest.param(f"OPTIONS / HTTP/1.1\r\n{AUTHORIZED}\r\n", 405, id="OPTIONS"),
        pytest.param(f"get / HTTP/1.1\r\n{AUTHORIZED}\r\n", 405, id="get in small letters"),
        pytest.param(showing(), 401, id="no authorization"),
        pytest.param(showing("Authorization:"), 401, id="an empty one"),
        pytest.param(showing(f"Authorization: {TOKEN}x"), 401, id="a longer one"),
        pytest.param(showing(f"Authorization: {TOKEN[:-1]}"), 401, id="a shorter one"),
        pytest.param(showing(f"Authorization: {TOKEN.upper()}"), 401, id="in other letters"),
        pytest.param(showing(f"Authorization: Bearer {TOKEN}"), 401, id="with a scheme"),
        pytest.param(showing("Authorization: \xe9\xff"), 401, id="not ASCII"),
        pytest.param(showing(f"Authorization: {TOKEN}", f"Authorization: {TOKEN}"), 401, id="two"),
        pytest.param(showing(f"Authorization: {TOKEN}", "Authorization: x"), 401, id="two that differ"),
        pytest.param(showing(f"Authorization : {TOKEN}"), 400, id="a space before the colon"),
        pytest.param(showing(f"Authorization:\r\n {TOKEN}"), 200, id="folded, as HTTP had it once"),
        pytest.param("\x16\x03\x01\x02\x00\x01\x00", 400, id="TLS"),
        pytest.param("\r\n\r\n\r\n", 400, id="empty lines"),
        pytest.param("\0" * 100, 400, id="zeros"),
        pytest.param("PRI * HTTP/2.0\r\n\r\n", 403, id="HTTP/2"),
        pytest.param("GET / HTTP/9.9\r\n\r\n", 403, id="a version that is none"),
        pytest.param("GET /\r\n", 400, id="HTTP/0.9"),
        pytest.param(f"GET / HTTP/1.1\r\n{AUTHORIZED}", 400, id="half a request"),
        pytest.param(f"GET /{'x' * 7000} HTTP/1.1\r\n{AUTHORIZED}\r\n", 200, id="a long line"),
        pytest.param(f"GET /{'x' * 20_000} HTTP/1.1\r\n{AUTHORIZED}\r\n", 431, id="a line that is too long"),
        pytest.param(f"GET /{'x' * 400_000}", 431, id="a line without end"),
        pytest.param("GET / HTTP/1.1\r\n" + "A: b\r\n" * 100_000, 431, id="headers without end"),
        pytest.param(with_("Content-Length: -1"), 400, id="a negative length"),
        pytest.param(with_("Content-Length: 1\r\nContent-Length: 2"), 400, id="two lengths"),
        pytest.param(with_("Transfer-Encoding: gzip"), 501, id="an unknown encoding"),
        pytest.param(with_("Transfer-Encoding: chunked") + "zz", 200, id="chunks are not read"),
    ],
)
async def test_what_is_asked_and_what_is_answered(raw: str, status: int) -> None:
    async with serving(ANYWHERE, held(), TOKEN) as at:
        found, headers, body = await tell(at.credentials, raw)
        counted = (await get(at.probes, "/metrics"))[1]

    assert found == status
    assert headers["content-type"] == "application/json"
    assert ("planted-secret-1" in body) == (status == 200 and not raw.startswith("HEAD"))
    assert TOKEN not in body
    assert f'keyturn_sidecar_requests_total{{code="{status}"}} 1\n' in counted
    if status != 200:
        assert list(json.loads(body)) == ["code", "message"]


async def test_the_answer_is_the_document() -> None:
    async with serving(ANYWHERE, held(), TOKEN) as at:
        _, headers, body = await tell(at.credentials, with_("Accept: */*"))

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
    ("holding", "says"),
    [
        pytest.param(Held(lambda: NOW), "no credentials were read yet", id="nothing"),
        pytest.param(held(expired=True), "the credentials expired at 2026-01-01T01:00:00Z", id="expired"),
    ],
)
async def test_where_nothing_valid_is_held(holding: Held, says: str) -> None:
    async with serving(ANYWHERE, holding, TOKEN) as at:
        status, headers, body = await tell(at.credentials, with_("Accept: */*"))
        ready = await get(at.probes, "/readyz")

    assert (status, headers["content-type"]) == (503, "application/json")
    assert json.loads(body)["code"] == "ServiceUnavailable"
    assert says in json.loads(body)["message"]
    assert ready[0] == 503
    assert says in ready[1]


async def test_what_is_held_is_looked_at_for_each_request() -> None:
    holding = held()
    async with serving(ANYWHERE, holding, TOKEN) as at:
        holding.served = served(process(2, NOW + HOUR))
        _, _, body = await tell(at.credentials, with_("Accept: */*"))

    assert json.loads(body)["AccessKeyId"] == "ASIA2"


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        pytest.param("/healthz", 200, "ok\n", id="healthy"),
        pytest.param("/readyz?verbose", 200, "ok\n", id="ready"),
        pytest.param("/", 404, "there are /healthz, /readyz and /metrics\n", id="another path"),
        pytest.param("/credentials", 404, "there are /healthz, /readyz and /metrics\n", id="no credentials here"),
    ],
)
async def test_probes(path: str, status: int, body: str) -> None:
    async with serving(ANYWHERE, held(), TOKEN) as at:
        assert await get(at.probes, path) == (status, body)


async def test_probes_need_no_name_and_no_token_but_a_get() -> None:
    async with serving(ANYWHERE, held(), TOKEN) as at:
        kubelet, *_ = await tell(at.probes, "GET /healthz HTTP/1.1\r\nHost: 10.0.0.7:9912\r\n\r\n")
        post, *_ = await tell(at.probes, "POST /healthz HTTP/1.1\r\nHost: 10.0.0.7:9912\r\n\r\n")

    assert (kubelet, post) == (200, 405)


async def test_metrics() -> None:
    async with serving(ANYWHERE, held(), TOKEN, lambda: b"more 1\n") as at:
        await tell(at.credentials, with_("Accept: */*"))
        _, headers, body = await tell(at.probes, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")

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
    ("listening", "says"),
    [
        pytest.param(replace(ANYWHERE, credentials="0.0.0.0:0"), "only on 127.0.0.1 or another", id="all"),
        pytest.param(replace(ANYWHERE, credentials="[::]:0"), "only on 127.0.0.1 or another", id="all of IPv6"),
        pytest.param(replace(ANYWHERE, credentials="10.0.0.7:80"), "only on 127.0.0.1", id="the pod's address"),
        pytest.param(replace(ANYWHERE, credentials="localhost:80"), "only on 127.0.0.1", id="a name"),
        pytest.param(replace(ANYWHERE, credentials=":80"), "only on 127.0.0.1", id="no host"),
        pytest.param(replace(ANYWHERE, credentials="127.0.0.1"), "it is not HOST:PORT", id="no port"),
        pytest.param(replace(ANYWHERE, probes="127.0.0.1:65536"), "it is not HOST:PORT", id="no such port"),
        pytest.param(replace(ANYWHERE, probes="192.0.2.1:0"), "cannot listen on 192.0.2.1:0: ", id="not ours"),
        pytest.param(replace(ANYWHERE, probes="nobody.invalid:0"), "cannot listen on nobody.invalid:0: ", id="?"),
    ],
)
async def test_where_it_cannot_listen(listening: Listening, says: str) -> None:
    with pytest.raises(NotListeningError, match=says):
        async with serving(listening, held(), TOKEN):
            pass


async def test_probes_without_an_address_are_answered_on_ipv4_and_ipv6(unused_tcp_port: int) -> None:
    async with serving(replace(ANYWHERE, probes=f":{unused_tcp_port}"), held(), TOKEN):
        for host in ("127.0.0.1", "[::1]"):
            assert await get(f"{host}:{unused_tcp_port}", "/healthz") == (200, "ok\n")


async def test_a_port_in_use_is_left_alone_and_the_other_one_is_free_again() -> None:
    async with serving(ANYWHERE, held(), TOKEN) as at:
        with pytest.raises(NotListeningError, match=f"cannot listen on {at.probes}: Address already in use"):
            async with serving(replace(ANYWHERE, probes=at.probes), held(), TOKEN):
                pass
        assert await get(at.probes, "/healthz") == (200, "ok\n")
    async with serving(at, held(), TOKEN) as again:
        assert again == at


async def test_ipv6() -> None:
    async with serving(replace(ANYWHERE, credentials="[::1]:0"), held(), TOKEN) as at:
        status, *_ = await tell(at.credentials, to(at.credentials))

    assert at.credentials.startswith("[::1]:")
    assert status == 200


async def test_a_refusal_is_logged_once_a_minute_for_each_status(caplog: pytest.LogCaptureFixture) -> None:
    moment = NOW
    holding = replace(held(), now=lambda: moment)
    async with serving(ANYWHERE, holding, TOKEN) as at:
        for later in (0, 30, 59, 60, 100, -30):
            moment = NOW + timedelta(seconds=later)
            await tell(at.credentials, showing("Authorization: planted"))
        await tell(at.credentials, to("planted.example"))
        holding.served = None
        await tell(at.credentials, with_("Accept: */*"))

    assert [line for line in caplog.messages if line.startswith("refused")] == [
        *["refused a request with 401: the header Authorization is not the token in the authorization file"] * 3,
        "refused a request with 403: credentials are given to this pod only: no proxy, no other name of the host",
    ]
    assert "planted" not in caplog.text


async def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(ANYWHERE, held(), TOKEN) as at:
        for raw in (with_("Accept: */*"), to("evil.example"), showing("Authorization: planted-guess"), "planted"):
            await tell(at.credentials, raw)

    assert "listening on 127.0.0.1:" in caplog.text
    assert "planted" not in caplog.text
