import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from keyturn.controller.health import serve
from keyturn.controller.streams import Boundary
from keyturn.metrics import Metrics, Series
from tests.support.raw_http import connect


async def get(listen: str, path: str, reason: str = "", note: str = "") -> tuple[int, str]:
    async with (
        asyncio.timeout(5),
        serve(
            listen,
            Metrics(),
            lambda: reason,
            Boundary("probes", "serving probes", Metrics()),
            lambda: note,
        ) as address,
        aiohttp.ClientSession() as http,
        http.get(f"http://{address}{path}") as response,
    ):
        return response.status, await response.text()


@pytest.mark.parametrize(
    ("path", "reason", "status"),
    [
        pytest.param("/healthz", "", 200, id="healthy"),
        pytest.param("/healthz", "no response", 200, id="healthy but not ready"),
        pytest.param("/readyz", "", 200, id="ready"),
        pytest.param("/readyz", "no response", 503, id="not ready"),
        pytest.param("/other", "", 404, id="unknown path"),
    ],
)
async def test_probe_status_code(path: str, reason: str, status: int) -> None:
    assert (await get("127.0.0.1:0", path, reason))[0] == status


async def test_readyz_explains_why_the_process_is_not_ready() -> None:
    assert await get("127.0.0.1:0", "/readyz", "no response") == (503, "no response\n")


async def test_readyz_shows_the_note_of_a_process_that_is_ready() -> None:
    assert await get("127.0.0.1:0", "/readyz", note="ScopeConflict: web\n") == (200, "ok\nScopeConflict: web\n")


async def test_metrics_are_served_in_prometheus_text_format() -> None:
    status, text = await get("127.0.0.1:0", "/metrics")

    assert (status, "# TYPE keyturn_renewals_total counter" in text) == (200, True)


async def test_many_clients_receive_complete_metrics_together() -> None:
    metrics = Metrics()
    metrics.export(lambda: [Series("billing", "acme", (), 0)] * 50, lambda: {"ready": 1})
    async with (
        serve("127.0.0.1:0", metrics, lambda: "", Boundary("probes", "serving probes", Metrics())) as address,
        aiohttp.ClientSession() as http,
    ):

        async def scrape() -> list[str]:
            # aiohttp raises ClientPayloadError if the body is incomplete.
            return [await (await http.get(f"http://{address}/metrics")).text() for _ in range(3)]

        texts = await asyncio.gather(*(scrape() for _ in range(20)))

    assert all("# TYPE keyturn_workqueue_requests" in text for each in texts for text in each)


async def test_clients_that_wait_for_metrics_share_them() -> None:
    metrics, scrapes = Metrics(), 0

    def series() -> list[Series]:
        nonlocal scrapes
        scrapes += 1
        return [Series("billing", "acme", (), 0)] * 5000

    metrics.export(series, lambda: {"ready": 1})
    async with (
        serve("127.0.0.1:0", metrics, lambda: "", Boundary("probes", "serving probes", Metrics())) as address,
        AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(connect(address)) for _ in range(20)]
        for _, writer in clients:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        texts = await asyncio.gather(*(reader.read() for reader, _ in clients))

    assert all(text.count(b"\nkeyturn_request_info{") == 5000 for text in texts)
    assert scrapes < 5


async def exposition_bytes(metrics: Metrics) -> int:
    return (await metrics.exposition()).kept_bytes


async def test_metrics_that_clients_do_not_read_are_discarded() -> None:
    metrics = Metrics()
    request = Series("billing", "acme", (), 0)
    # More than the kernel buffers for a client.
    metrics.export(lambda: [request] * 100_000, lambda: {"ready": 1})
    async with (
        serve(
            "127.0.0.1:0",
            metrics,
            lambda: "",
            Boundary("probes", "serving probes", Metrics()),
            unread_bytes=9 * await exposition_bytes(metrics) // 2,
        ) as address,
        AsyncExitStack() as stack,
    ):
        clients = []
        for _ in range(5):
            reader, writer = await stack.enter_async_context(connect(address))
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await reader.readline()
            clients.append(reader)
        received = [(await reader.read()).rpartition(b"# TYPE ")[2] for reader in clients]

    names = [last.partition(b" ")[0] for last in received]
    assert names[1:] == [b"keyturn_workqueue_requests"] * 4
    assert names[0] != b"keyturn_workqueue_requests"


async def test_error_while_a_probe_is_served_is_counted_and_returned() -> None:
    def broken() -> str:
        raise KeyError("planted")

    metrics = Metrics()
    boundary = Boundary("probes", "serving probes", metrics)
    async with serve("127.0.0.1:0", metrics, broken, boundary) as address, aiohttp.ClientSession() as http:
        async with http.get(f"http://{address}/readyz") as response:
            assert (response.status, await response.text()) == (500, "internal error\n")
        async with http.get(f"http://{address}/healthz") as response:
            assert response.status == 200

    assert metrics.internal_errors.labels("probes")._value.get() == 1


async def test_bind_address_in_brackets_is_ipv6() -> None:
    assert (await get("[::1]:0", "/healthz"))[0] == 200


async def test_bind_address_without_a_host_listens_on_ipv4_and_ipv6(unused_tcp_port: int) -> None:
    async with (
        serve(f":{unused_tcp_port}", Metrics(), lambda: "", Boundary("probes", "serving probes", Metrics())),
        aiohttp.ClientSession() as http,
    ):
        for host in ("127.0.0.1", "[::1]"):
            async with http.get(f"http://{host}:{unused_tcp_port}/healthz") as response:
                assert response.status == 200
