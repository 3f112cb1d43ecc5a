import asyncio
import itertools
import json
import tracemalloc
from asyncio import sslproto
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient as KubernetesClient

from keyturn.controller.api_client import ApiClient
from keyturn.controller.app import NoClusterError, Operator, Options, load_configuration
from keyturn.core.proxies import Proxies, Proxy
from keyturn.core.service_health import ServiceHealth
from keyturn.core.settings import Settings
from tests.support import tls
from tests.support.api_endpoints import FOUND, SECRET, listening
from tests.support.clock import real_now


def options(lease_namespace: str | None) -> Options:
    return Options(
        kubeconfig=None,
        namespaces=(),
        http_bind_address="127.0.0.1:0",
        concurrent=1,
        leader_elect=True,
        lease_name="keyturn",
        lease_namespace=lease_namespace,
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no such file"),
        pytest.param("", id="an empty file"),
        pytest.param("{", id="invalid YAML"),
        pytest.param("current-context: missing\ncontexts: []\nclusters: []\nusers: []\n", id="no such context"),
    ],
)
async def test_invalid_kubeconfig_raises_no_cluster_error(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)

    with pytest.raises(NoClusterError, match="no cluster: "):
        await load_configuration(str(path), Proxies())


def kubeconfig(directory: Path, server: str, **cluster: str) -> str:
    content = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "a", "user": {}}],
    }
    (directory / "config").write_text(json.dumps(content))
    return str(directory / "config")


@pytest.mark.parametrize(
    ("server", "no_proxy", "is_proxied"),
    [
        pytest.param("https://cluster.example", "", True, id="a name"),
        pytest.param("https://10.96.0.1", "10.96.0.0/12", False, id="an address in a network of NO_PROXY"),
        pytest.param("https://[fd00::1]:443", "fd00::1", False, id="an IPv6 address in NO_PROXY"),
        pytest.param("https://10.96.0.1:6443", "10.96.0.1:443", True, id="another port"),
    ],
)
async def test_api_server_is_reached_through_the_proxy_of_the_environment(
    tmp_path: Path, server: str, no_proxy: str, *, is_proxied: bool
) -> None:
    proxies = Proxies.from_environment({"HTTPS_PROXY": "http://user:password@proxy.example", "NO_PROXY": no_proxy})
    configuration = await load_configuration(kubeconfig(tmp_path, server), proxies)

    assert configuration.proxy == ("http://proxy.example" if is_proxied else None)
    assert bool(configuration.proxy_headers) is is_proxied


async def test_proxy_of_the_kubeconfig_wins(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "https://cluster.example", **{"proxy-url": "http://user:password@other.example"})
    configuration = await load_configuration(path, Proxies(https=Proxy("http://proxy.example"), no_proxy="*"))

    assert configuration.proxy == "http://other.example"
    assert configuration.proxy_headers == {"Proxy-Authorization": "Basic dXNlcjpwYXNzd29yZA=="}


async def test_unsupported_proxy_of_the_kubeconfig_is_refused(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "https://cluster.example", **{"proxy-url": "socks5://user:password@other.example"})
    with pytest.raises(NoClusterError, match=r"^no cluster: proxy-url of the kubeconfig is not an http://"):
        await load_configuration(path, Proxies())


@pytest.mark.parametrize(("option", "namespace"), [("keyturn", "keyturn"), (None, "default")])
def test_lease_namespace_is_the_option_or_default(option: str | None, namespace: str) -> None:
    assert options(option).election_namespace == namespace


async def test_requests_in_progress_leave_a_connection_for_the_lease(tmp_path: Path) -> None:
    """Each watched namespace has two watches. Those of 50 would use the 100 connections that are the default."""
    in_progress, is_over = 0, asyncio.Event()

    async def respond(http_request: web.Request) -> web.Response:
        nonlocal in_progress
        if http_request.method == "PATCH":
            in_progress += 1
            await is_over.wait()
        return web.Response(text=FOUND)

    async with listening(respond) as address:
        configuration = await load_configuration(kubeconfig(tmp_path, address), Proxies())
        async with KubernetesClient(configuration) as client:
            api = ApiClient(client, ServiceHealth())
            hanging = [asyncio.create_task(api.request("PATCH", SECRET, {})) for _ in range(150)]
            try:
                async with asyncio.timeout(5):
                    while in_progress < 100:  # noqa: ASYNC110 - there is no event for the start of a request
                        await asyncio.sleep(0.01)
                    response = await api.request("GET", SECRET)
            finally:
                is_over.set()
            await asyncio.gather(*hanging)

    assert (response.status, in_progress) == (200, 150)


async def test_connections_have_small_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 350 namespaces, the buffers of asyncio for their watches and Leases took more than half of 512 MiB."""
    monkeypatch.setattr(sslproto.SSLProtocol, "max_size", sslproto.SSLProtocol.max_size)  # restored after the test
    are_open, number = asyncio.Event(), itertools.count(1)

    async def respond(_: web.Request) -> web.Response:
        if next(number) == 10:
            are_open.set()
        await are_open.wait()
        return web.Response(text=FOUND)

    (tmp_path / "ca.crt").write_text(tls.CERTIFICATE.ca)
    async with tls.served(respond) as server:
        path = kubeconfig(
            tmp_path, f"https://127.0.0.1:{server.port}", **{"certificate-authority": str(tmp_path / "ca.crt")}
        )
        async with KubernetesClient(await load_configuration(path, Proxies())) as client:
            api = ApiClient(client, ServiceHealth())
            tracemalloc.start()
            try:
                await asyncio.gather(*(api.request("GET", SECRET) for _ in range(10)))
                buffers = [trace.size for trace in tracemalloc.take_snapshot().traces if trace.size > 100_000]
            finally:
                tracemalloc.stop()

    assert buffers == []


class CancelledOperator(Operator):
    """An operator whose work is cancelled by a bug."""

    async def _start(self, *_: Any) -> None:
        raise asyncio.CancelledError


async def test_cancellation_without_a_signal_is_no_success(tmp_path: Path) -> None:
    some_options = replace(options(None), kubeconfig=kubeconfig(tmp_path, "http://127.0.0.1:1"))
    operator = CancelledOperator(some_options, Settings(), real_now, lambda: 0.0, lambda _: None)

    with pytest.raises(asyncio.CancelledError):
        await operator.run()


async def test_little_is_buffered_of_a_response_that_waits_for_a_slot(tmp_path: Path) -> None:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 4_000_000)

    async with listening(respond) as address:
        configuration = await load_configuration(kubeconfig(tmp_path, address), Proxies())
        async with KubernetesClient(configuration) as client:
            session = client.rest_client._create_pool_manager()
            async with session, session.get(address) as unread:
                await asyncio.sleep(0.5)
                assert unread.content.total_bytes < 400_000
