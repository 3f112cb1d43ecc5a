import asyncio

import aiohttp
import pytest

from keyturn.controller.health import serve
from keyturn.metrics import Metrics


async def get(listen: str, path: str, *, ready: bool = True) -> tuple[int, str]:
    runner = await serve(listen, Metrics().registry, lambda: ready)
    host, port, *_ = runner.addresses[0]
    try:
        async with (
            aiohttp.ClientSession() as http,
            asyncio.timeout(5),
            http.get(f"http://[{host}]:{port}{path}" if ":" in host else f"http://{host}:{port}{path}") as response,
        ):
            return response.status, await response.text()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "ready", "status"),
    [
        pytest.param("/healthz", True, 200, id="healthy"),
        pytest.param("/healthz", False, 200, id="healthy before it is ready"),
        pytest.param("/readyz", True, 200, id="ready"),
        pytest.param("/readyz", False, 503, id="not ready"),
        pytest.param("/other", True, 404, id="anything else"),
    ],
)
async def test_health(path: str, status: int, *, ready: bool) -> None:
    assert (await get("127.0.0.1:0", path, ready=ready))[0] == status


async def test_metrics_are_served_as_prometheus_reads_them() -> None:
    status, text = await get("127.0.0.1:0", "/metrics")

    assert (status, "# TYPE keyturn_renewals_total counter" in text) == (200, True)


async def test_an_address_in_brackets_is_one_of_ipv6() -> None:
    assert (await get("[::1]:0", "/healthz"))[0] == 200


async def test_without_an_address_it_listens_on_those_of_ipv4_and_ipv6(unused_tcp_port: int) -> None:
    runner = await serve(f":{unused_tcp_port}", Metrics().registry, lambda: True)
    async with aiohttp.ClientSession() as http:
        for host in ("127.0.0.1", "[::1]"):
            async with http.get(f"http://{host}:{unused_tcp_port}/healthz") as response:
                assert response.status == 200
    await runner.cleanup()
