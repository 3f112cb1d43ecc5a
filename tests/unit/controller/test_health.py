import asyncio

import aiohttp
import pytest

from keyturn.controller.health import serve
from keyturn.metrics import Metrics


async def get(listen: str, path: str, problem: str = "") -> tuple[int, str]:
    runner = await serve(listen, Metrics().registry, lambda: problem)
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
    ("path", "problem", "status"),
    [
        pytest.param("/healthz", "", 200, id="healthy"),
        pytest.param("/healthz", "no Lease", 200, id="healthy but not ready"),
        pytest.param("/readyz", "", 200, id="ready"),
        pytest.param("/readyz", "no Lease", 503, id="not ready"),
        pytest.param("/other", "", 404, id="unknown path"),
    ],
)
async def test_probe_status_code(path: str, problem: str, status: int) -> None:
    assert (await get("127.0.0.1:0", path, problem))[0] == status


async def test_readyz_returns_the_problem() -> None:
    assert (await get("127.0.0.1:0", "/readyz", "no Lease"))[1] == "not ready: no Lease\n"


async def test_metrics_are_served_in_prometheus_text_format() -> None:
    status, text = await get("127.0.0.1:0", "/metrics")

    assert (status, "# TYPE keyturn_renewals_total counter" in text) == (200, True)


async def test_bind_address_in_brackets_is_ipv6() -> None:
    assert (await get("[::1]:0", "/healthz"))[0] == 200


async def test_bind_address_without_a_host_listens_on_ipv4_and_ipv6(unused_tcp_port: int) -> None:
    runner = await serve(f":{unused_tcp_port}", Metrics().registry, lambda: "")
    async with aiohttp.ClientSession() as http:
        for host in ("127.0.0.1", "[::1]"):
            async with http.get(f"http://{host}:{unused_tcp_port}/healthz") as response:
                assert response.status == 200
    await runner.cleanup()
