"""A list or a watch that waits for the API server keeps nothing of a large page or event before."""

import asyncio
import json
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from keyturn.controller.api_client import ApiClient
from keyturn.controller.kopf_adapter import kopf_connection, kopf_session
from keyturn.controller.request_responses import RequestResponses
from keyturn.controller.secret_watch import SecretWatch
from keyturn.controller.streams import Boundary
from keyturn.metrics import Metrics
from tests.support.api_endpoints import served

REQUESTS = "/apis/keyturn.dev/v1alpha1/tokenrequests"


def large_object(version: int) -> dict[str, Any]:
    fields = {"name": "acme", "namespace": "billing", "uid": "u", "resourceVersion": str(version)}
    return {"metadata": fields | {"annotations": {"example.com/note": "x" * 10**6}}}


def page(*items: dict[str, Any], more: str = "") -> bytes:
    kind = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList"}
    return json.dumps(kind | {"metadata": {"resourceVersion": "5", "continue": more}, "items": items}).encode()


def event() -> bytes:
    return json.dumps({"type": "MODIFIED", "object": large_object(6)}).encode() + b"\n"


class SlowServer:
    """Returns a large page or event, then sets `is_waiting` and returns nothing more until `may_end` is set."""

    def __init__(self, *, is_paged: bool) -> None:
        self._is_paged = is_paged
        self.is_waiting, self.may_end = asyncio.Event(), asyncio.Event()

    async def response(self, request: web.Request) -> web.StreamResponse:
        # Not a web.Response, which aiohttp keeps until the next response.
        response = web.StreamResponse()
        await response.prepare(request)
        is_watch = "watch" in request.query
        if is_watch:
            await response.write(event())
        if is_watch or "continue" in request.query:
            self.is_waiting.set()
            await self.may_end.wait()
        else:
            await response.write(page(large_object(5), more="2") if self._is_paged else page())
        return response


async def watch_secrets(api: ApiClient, boundary: Boundary, on_change: Callable[[], None]) -> None:
    await SecretWatch(api, "/api/v1/secrets", "a=b", lambda _meta, _alive: on_change(), boundary).run()


async def watch_requests(api: ApiClient, boundary: Boundary, on_change: Callable[[], None]) -> None:
    async def on_request(body: dict[str, Any], *, alive: bool) -> None:
        raise AssertionError("kopf receives the event", body, alive)

    responses = RequestResponses(api, on_request, lambda _uids, _namespace: None, boundary)
    configuration = Configuration(host=api._client.configuration.host)
    session = kopf_session(await kopf_connection(configuration), configuration, responses)
    async with session.aiohttp_session as kopf, kopf.get(f"{configuration.host}{REQUESTS}?watch=true") as response:
        async for _ in response.content.iter_chunked(2**20):
            on_change()


@pytest.mark.parametrize(
    ("watch", "is_paged"),
    [
        pytest.param(watch_secrets, True, id="page of Secrets"),
        pytest.param(watch_secrets, False, id="event about a Secret"),
        pytest.param(watch_requests, False, id="event about a TokenRequest"),
    ],
)
async def test_stream_that_waits_keeps_nothing_large(
    watch: Callable[[ApiClient, Boundary, Callable[[], None]], Awaitable[None]], *, is_paged: bool
) -> None:
    server, has_changed = SlowServer(is_paged=is_paged), asyncio.Event()
    async with served(server.response) as api:
        tracemalloc.start()
        try:
            boundary = Boundary("secret_watch", "the watch", Metrics())
            task = asyncio.ensure_future(watch(api, boundary, has_changed.set))
            await asyncio.gather(server.is_waiting.wait(), has_changed.wait())
            # The next step of the watch begins to wait.
            await asyncio.sleep(0.1)
            kept = [trace.size for trace in tracemalloc.take_snapshot().traces if trace.size > 200_000]
        finally:
            tracemalloc.stop()
            task.cancel()
            server.may_end.set()

    assert kept == []
