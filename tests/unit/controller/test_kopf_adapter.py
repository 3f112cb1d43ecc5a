import asyncio
import itertools
from collections.abc import Set as AbstractSet
from typing import Any

import kopf
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

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
from keyturn.metrics import Metrics
from tests.support.api_endpoints import served

GROUPS = {"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": "keyturn.dev"}]}
KINDS = {"kind": "APIResourceList", "apiVersion": "v1", "resources": [{"name": "tokenrequests"}]}


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


async def test_kopf_does_not_cancel_our_tasks_when_it_ends() -> None:
    task = asyncio.current_task()

    assert task in _AllTasks()
    assert {each for each in asyncio.all_tasks() if each not in _AllTasks()} == set()


async def test_kopf_uses_the_proxy_of_the_kubeconfig() -> None:
    async def response(request: web.Request) -> web.Response:
        return web.Response(text=request.raw_path)

    async with served(response) as api:
        info, proxy = kopf.ConnectionInfo(server="http://cluster.example"), api._client.configuration.host
        responses = RequestResponses(api, _ignore, Boundary("request_watch", "the watch", Metrics()))
        async with kopf_session(info, proxy, responses).aiohttp_session as session:
            url = await (await session.get("http://cluster.example/version")).text()

    assert url == "http://cluster.example/version"


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
