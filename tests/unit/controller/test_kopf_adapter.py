import asyncio
import itertools
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import aiohttp
import kopf
import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient as KubernetesClient
from kubernetes.aio.client import Configuration

from keyturn.controller.api_client import ApiClient
from keyturn.controller.kopf_adapter import (
    _AllTasks,
    _EndlessBackoff,
    is_crd_served,
    kopf_connection,
    kopf_session,
    kopf_settings,
)
from keyturn.controller.request_responses import RequestResponses
from keyturn.controller.streams import Boundary
from keyturn.core.errors import UnavailableError
from keyturn.core.proxies import parse_proxy
from keyturn.core.service_health import ServiceHealth
from keyturn.metrics import Metrics
from tests.support import tls
from tests.support.api_endpoints import served
from tests.support.certificates import issue_loopback_certificate
from tests.support.clock import real_now
from tests.support.proxy import running_proxy

GROUPS = {"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": "keyturn.dev"}]}
KINDS = {"kind": "APIResourceList", "apiVersion": "v1", "resources": [{"name": "tokenrequests"}]}


async def _ignore_request(body: dict[str, Any], *, alive: bool) -> None:
    assert (body, alive) is None


def _ignore(uids: AbstractSet[str], namespace: str) -> None:
    assert (uids, namespace) is None


def test_kopf_needs_no_cluster_wide_permissions() -> None:
    settings = kopf_settings()

    assert (settings.scanning.disabled, settings.posting.enabled, settings.peering.standalone) == (
        True,
        False,
        True,
    )


def test_kopf_stores_no_finalizer_and_reads_no_annotation() -> None:
    persistence = kopf_settings().persistence
    body: Any = {"metadata": {"annotations": {"kopf.zalando.org/last-handled-configuration": "not JSON"}}}

    assert persistence.finalizer != kopf_settings().persistence.finalizer
    assert persistence.diffbase_storage.fetch(body=kopf.Body(body)) is None


@pytest.mark.parametrize(
    ("value", "scheme", "token"),
    [
        pytest.param("Bearer abc", "Bearer", "abc", id="a service account"),
        pytest.param("abc", None, "abc", id="a token without a scheme"),
        pytest.param(None, None, None, id="a client certificate only"),
    ],
)
async def test_kopf_connects_to_the_configured_api_server(
    value: str | None, scheme: str | None, token: str | None
) -> None:
    configuration = Configuration(host="https://127.0.0.1:6443", ssl_ca_cert="/ca.crt")
    if value:
        configuration.api_key = {"BearerToken": value}
    connection = await kopf_connection(configuration)

    assert (connection.server, connection.ca_path) == ("https://127.0.0.1:6443", "/ca.crt")
    assert (connection.scheme, connection.token, connection.insecure) == (scheme, token, False)


async def test_each_request_has_the_current_token() -> None:
    async def response(request: web.Request) -> web.Response:
        return web.Response(text=request.headers["Authorization"])

    async with served(response) as api:
        configuration = Configuration(api._client.configuration.host)
        configuration.api_key = {"BearerToken": "Bearer first"}
        responses = RequestResponses(api, _ignore_request, _ignore, Boundary("request_watch", "the watch", Metrics()))
        info = await kopf_connection(configuration)
        async with kopf_session(info, configuration, responses).aiohttp_session as session:
            first = await (await session.get(configuration.host)).text()
            configuration.api_key = {"BearerToken": "Bearer second"}
            second = await (await session.get(configuration.host)).text()

    assert (first, second) == ("Bearer first", "Bearer second")


async def test_kopf_does_not_cancel_our_tasks_when_it_ends() -> None:
    task = asyncio.current_task()

    assert task in _AllTasks()
    assert {each for each in asyncio.all_tasks() if each not in _AllTasks()} == set()


async def test_kopf_uses_the_proxy_of_the_kubeconfig() -> None:
    async def response(request: web.Request) -> web.Response:
        return web.Response(text=request.raw_path)

    async with served(response) as api:
        info = kopf.ConnectionInfo(server="http://cluster.example")
        configuration = Configuration(proxy=api._client.configuration.host)
        responses = RequestResponses(api, _ignore_request, _ignore, Boundary("request_watch", "the watch", Metrics()))
        async with kopf_session(info, configuration, responses).aiohttp_session as session:
            url = await (await session.get("http://cluster.example/version")).text()

    assert url == "http://cluster.example/version"


async def test_little_is_buffered_of_a_response_that_waits_for_a_slot() -> None:
    async def response(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 4_000_000)

    async with served(response) as api:
        url = api._client.configuration.host
        async with session_of(url, api._client.configuration) as session, session.get(url) as unread:
            await asyncio.sleep(0.5)
            assert unread.content.total_bytes < 400_000


@asynccontextmanager
async def behind_proxy(password: str) -> AsyncIterator[tuple[str, Configuration]]:
    """The URL of a server, and a configuration with a proxy whose password is "right"."""

    async def response(_: web.Request) -> web.Response:
        return web.json_response(KINDS)

    async with tls.served(response) as api, running_proxy(credentials="user:right") as proxy:
        used = parse_proxy(proxy.url.replace("right", password), "HTTPS_PROXY")
        configuration = Configuration(api.url(), proxy=used.url, proxy_headers=used.headers, retries=0)
        configuration.verify_ssl = False
        yield api.url(), configuration


def session_of(url: str, configuration: Configuration) -> aiohttp.ClientSession:
    api = ApiClient(cast("Any", None), ServiceHealth())
    responses = RequestResponses(api, _ignore_request, _ignore, Boundary("request_watch", "the watch", Metrics()))
    info = kopf.ConnectionInfo(server=url, insecure=True)
    return kopf_session(info, configuration, responses).aiohttp_session


async def test_kopf_and_the_client_authenticate_to_the_proxy() -> None:
    async with behind_proxy("right") as (url, configuration), session_of(url, configuration) as session:
        assert await (await session.get(url)).json() == KINDS
        async with KubernetesClient(configuration) as client:
            response = await ApiClient(client, ServiceHealth()).request("GET", "/version")

    assert response.status == HTTPStatus.OK


async def test_kopf_never_shows_the_password_of_the_proxy() -> None:
    async with behind_proxy("planted") as (url, configuration), session_of(url, configuration) as session:
        with pytest.raises(aiohttp.ClientConnectionError, match="the proxy returned HTTP 407") as refused:
            await session.get(url)
        with pytest.raises(aiohttp.ClientConnectionError) as unreachable:
            await session.get(url, proxy="http://127.0.0.1:9")
    encoded = parse_proxy("http://user:planted@proxy.example", "HTTPS_PROXY").authorization
    for error in (refused.value, unreachable.value):
        assert not any(part in repr(error) for part in ("planted", encoded))


async def test_new_ca_of_the_api_server_is_trusted(tmp_path: Path) -> None:
    async def response(_: web.Request) -> web.Response:
        return web.json_response(KINDS)

    ca = tmp_path / "ca.crt"
    ca.write_text(issue_loopback_certificate(real_now()).ca)
    async with tls.served(response) as server:
        configuration = Configuration(server.url(), ssl_ca_cert=str(ca))
        responses = RequestResponses(
            ApiClient(cast("Any", None), ServiceHealth()), _ignore_request, _ignore, Boundary("a", "b", Metrics())
        )
        session = kopf_session(await kopf_connection(configuration), configuration, responses).aiohttp_session
        async with KubernetesClient(configuration) as client, session:
            ca.write_text(tls.CERTIFICATE.ca)
            response_of_client = await ApiClient(client, ServiceHealth()).request("GET", "/version")
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(server.url())
            assert await (await session.get(server.url())).json() == KINDS

    assert response_of_client.status == HTTPStatus.OK


async def test_refusal_of_the_proxy_is_reported() -> None:
    async with behind_proxy("wrong") as (_, configuration), KubernetesClient(configuration) as client:
        with pytest.raises(UnavailableError, match=r"the API server did not respond \(the proxy returned HTTP 407\)"):
            await ApiClient(client, ServiceHealth()).request("GET", "/version")


@pytest.mark.parametrize(
    ("groups", "kinds", "is_served"),
    [
        pytest.param(GROUPS, KINDS, True, id="group and version serve it"),
        pytest.param(GROUPS | {"groups": []}, KINDS, False, id="group not listed yet"),
        pytest.param(GROUPS, KINDS | {"resources": [{"name": "others"}]}, False, id="group serves only another kind"),
    ],
)
async def test_crd_is_served_if_group_and_version_list_it(groups: object, kinds: object, *, is_served: bool) -> None:
    async def response(request: web.Request) -> web.Response:
        body = groups if request.path == "/apis" else kinds
        return web.json_response(body)

    async with served(response) as api:
        assert await is_crd_served(api) is is_served


def test_kopf_retries_without_end() -> None:
    assert isinstance(kopf_settings().networking.error_backoffs, _EndlessBackoff)
    assert list(itertools.islice(_EndlessBackoff(), 1000))[-1] == 5
