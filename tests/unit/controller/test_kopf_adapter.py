import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import kopf
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration
from yarl import URL

from keyturn.controller.kopf_adapter import (
    _AllTasks,
    _EndlessBackoff,
    is_crd_served,
    kopf_connection,
    kopf_session,
    kopf_settings,
)
from tests.support.api_endpoints import served

ALL = "/apis/keyturn.dev/v1alpha1/tokenrequests"
BILLING = "/apis/keyturn.dev/v1alpha1/namespaces/billing/tokenrequests"
GROUPS = {"groups": [{"name": "keyturn.dev"}]}
KINDS = {"resources": [{"name": "tokenrequests"}]}


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


async def test_kopf_does_not_cancel_our_tasks_when_it_ends() -> None:
    task = asyncio.current_task()

    assert task in _AllTasks()
    assert {each for each in asyncio.all_tasks() if each not in _AllTasks()} == set()


def page(*uids: str, more: str = "") -> dict[str, Any]:
    return {"metadata": {"continue": more}, "items": [{"metadata": {"uid": uid}} for uid in uids]}


class ListRecorder:
    """Records the lists that were reported."""

    def __init__(self) -> None:
        self.lists: list[tuple[set[str], str]] = []

    def __call__(self, uids: AbstractSet[str], namespace: str) -> None:
        self.lists.append((set(uids), namespace))


@asynccontextmanager
async def connected(recorder: ListRecorder, bodies: dict[str, Any]) -> AsyncIterator[aiohttp.ClientSession]:
    """Connect kopf's session to a server that returns these bodies by path and query, or a 404."""

    async def response(request: web.Request) -> web.Response:
        body = bodies.get(str(request.rel_url))
        status = body if isinstance(body, int) else 404 if body is None else 200
        return web.Response(status=status, text=json.dumps(body))

    async with served(response) as api:
        info = kopf.ConnectionInfo(server=api._client.configuration.host)
        async with kopf_session(info, None, recorder).aiohttp_session as session:
            session._base_url = URL(info.server)
            yield session


async def test_list_is_reported_after_its_last_page() -> None:
    recorder = ListRecorder()
    bodies = {ALL: page("a", more="2"), f"{ALL}?continue=2": page("b", more="3"), f"{ALL}?continue=3": page("c")}
    async with connected(recorder, bodies) as session:
        for path in (ALL, f"{ALL}?continue=2", ALL, f"{ALL}?continue=2", f"{ALL}?continue=3"):
            async with session.get(path) as response:
                assert (await response.json(content_type=None))["items"]

    assert recorder.lists == [({"a", "b", "c"}, "")]


@pytest.mark.parametrize(
    ("path", "lists"),
    [
        pytest.param(BILLING, [({"a"}, "billing")], id="a list of a namespace"),
        pytest.param(f"{ALL}?watch=true", [], id="a watch"),
        pytest.param("/apis", [], id="something else"),
    ],
)
async def test_only_full_lists_are_reported(path: str, lists: list[tuple[set[str], str]]) -> None:
    recorder = ListRecorder()
    async with connected(recorder, {path: page("a")}) as session:
        await (await session.get(path)).read()

    assert recorder.lists == lists


async def test_kopf_uses_the_proxy_of_the_kubeconfig() -> None:
    async def response(request: web.Request) -> web.Response:
        return web.Response(text=request.raw_path)

    async with served(response) as api:
        info, proxy = kopf.ConnectionInfo(server="http://cluster.example"), api._client.configuration.host
        async with kopf_session(info, proxy, ListRecorder()).aiohttp_session as session:
            url = await (await session.get("http://cluster.example/version")).text()

    assert url == "http://cluster.example/version"


async def test_missing_crd_is_handled_like_a_lost_connection() -> None:
    recorder = ListRecorder()
    async with connected(recorder, {}) as session:
        with pytest.raises(aiohttp.ClientConnectionError, match=r"tokenrequests\.keyturn\.dev: HTTP 404"):
            await session.get(ALL)
        assert (await session.get("/apis/other")).status == 404

    assert recorder.lists == []


async def test_list_whose_pages_expired_is_restarted() -> None:
    recorder = ListRecorder()
    pages = {f"{ALL}?continue=2": 410, f"{ALL}?watch=true": 410}
    async with connected(recorder, pages) as session:
        # After a lost connection, kopf requests the same page again: only a broken response ends the list.
        with pytest.raises(aiohttp.ClientPayloadError, match="HTTP 410"):
            await session.get(f"{ALL}?continue=2")
        assert (await session.get(f"{ALL}?watch=true")).status == 410


@pytest.mark.parametrize(
    ("groups", "kinds", "is_served"),
    [
        pytest.param(GROUPS, KINDS, True, id="group and version serve it"),
        pytest.param({"groups": []}, KINDS, False, id="group not listed yet"),
        pytest.param(GROUPS, {"resources": [{"name": "others"}]}, False, id="group serves only another kind"),
        pytest.param(GROUPS, None, False, id="no such version"),
    ],
)
async def test_crd_is_served_if_group_and_version_list_it(groups: object, kinds: object, *, is_served: bool) -> None:
    async def response(request: web.Request) -> web.Response:
        body = groups if request.path == "/apis" else kinds
        return web.json_response(body or {"message": "404"}, status=200 if body else 404)

    async with served(response) as api:
        assert await is_crd_served(api) is is_served


def test_kopf_retries_without_end() -> None:
    assert isinstance(kopf_settings().networking.error_backoffs, _EndlessBackoff)
    assert list(itertools.islice(_EndlessBackoff(), 1000))[-1] == 5
