import asyncio
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from keyturn.api.status import Status
from keyturn.controller.api_client import ApiResponse
from keyturn.controller.status_writer import StatusWriter
from keyturn.core.errors import BeingDeletedError, KeyturnError, RefusedError, UnavailableError
from keyturn.core.service_health import ServiceHealth
from keyturn.core.status import Event
from tests.support.api_endpoints import FOUND, SECRET, served
from tests.support.api_server import ApiServer
from tests.support.dependencies import HOUR, NOW
from tests.support.secret_store import TOKEN_REQUEST
from tests.support.status import FIRST, REQUEST
from tests.support.virtual_time import VirtualTime

EVENTS = "/api/v1/namespaces/billing/events"
IDENTITY = (REQUEST.namespace, REQUEST.name, REQUEST.uid)


def cluster() -> tuple[ApiServer, StatusWriter]:
    server = ApiServer()
    server.put(TOKEN_REQUEST, metadata={"name": "acme", "uid": REQUEST.uid})
    return server, StatusWriter(server, lambda: NOW, "pod-1")


async def test_status_is_written_with_the_field_names_of_the_crd() -> None:
    server, status_writer = cluster()
    await status_writer.write_status(*IDENTITY, FIRST)
    status = server.objects[TOKEN_REQUEST]["status"]

    assert (status["expirationTime"], status["revision"]) == ("2026-01-02T04:04:05Z", 1)
    assert [condition["type"] for condition in status["conditions"]] == ["Ready", "Renewed"]


async def test_messages_about_problems_end_with_the_section_about_their_reason() -> None:
    server, _ = cluster()
    status_writer = StatusWriter(server, lambda: NOW, "pod-1", "https://docs.test/troubleshooting/")
    ready, renewed = FIRST.conditions
    failing = replace(renewed, status="False", reason="SourceNotFound", message="Secret license does not exist")
    status = replace(FIRST, conditions=(ready, failing))
    await status_writer.write_status(*IDENTITY, status)
    await status_writer.post_event(REQUEST, Event("Warning", "SourceNotFound", "x" * 2000))
    link = "; see https://docs.test/troubleshooting/#sourcenotfound"

    written = server.objects[TOKEN_REQUEST]
    assert [condition["message"] for condition in written["status"]["conditions"]] == [
        ready.message,
        f"Secret license does not exist{link}",
    ]
    assert status_writer.read(written) == status
    [event] = [body for path, body in server.objects.items() if path.startswith(EVENTS)]
    assert event["message"] == "x" * (1024 - len(link)) + link


async def test_field_without_a_value_is_removed() -> None:
    server, status_writer = cluster()
    await status_writer.write_status(*IDENTITY, FIRST)
    await status_writer.write_status(*IDENTITY, Status(observed_generation=2))

    assert "expirationTime" not in server.objects[TOKEN_REQUEST]["status"]
    assert server.objects[TOKEN_REQUEST]["status"]["conditions"] == []


@pytest.mark.parametrize(
    ("name", "uid", "error"),
    [
        pytest.param("deleted", REQUEST.uid, BeingDeletedError, id="deleted"),
        pytest.param("acme", "other", UnavailableError, id="recreated, or too many concurrent writes"),
    ],
)
async def test_status_of_a_deleted_or_recreated_request_is_not_written(
    name: str, uid: str, error: type[KeyturnError]
) -> None:
    server, status_writer = cluster()

    with pytest.raises(error):
        await status_writer.write_status("billing", name, uid, FIRST)

    assert "status" not in server.objects[TOKEN_REQUEST]


async def test_refused_status_is_reported() -> None:
    server, status_writer = cluster()
    server.responses[f"PATCH {TOKEN_REQUEST}"] = ApiResponse(403, {"message": "forbidden"})

    with pytest.raises(RefusedError, match="the status of billing/acme: forbidden"):
        await status_writer.write_status(*IDENTITY, FIRST)


async def test_event_refers_to_the_request() -> None:
    server, status_writer = cluster()
    await status_writer.post_event(REQUEST, Event("Warning", "Stalled", "x" * 2000))
    (posted,) = [body for path, body in server.objects.items() if path.startswith(EVENTS)]

    assert (posted["involvedObject"]["uid"], posted["reason"], posted["type"]) == (
        REQUEST.uid,
        "Stalled",
        "Warning",
    )
    assert len(posted["message"]) == 1024


async def test_refused_event_raises_nothing() -> None:
    server, status_writer = cluster()
    server.responses[f"POST {EVENTS}"] = ApiResponse(403, {"message": "forbidden"})

    await status_writer.post_event(REQUEST, Event("Normal", "Issued", "issued"))

    assert server.count("POST") == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_event_is_posted_once_while_their_rate_is_limited(status: int) -> None:
    """Many clusters limit the rate of Events, and a worker waits for each of them."""
    posted, recovered, service_health = list[str](), list[str](), ServiceHealth()
    service_health.on_recovery(recovered.append)

    async def refuse(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.Response(text=FOUND)
        posted.append(request.path)
        return web.Response(status=status)

    async with served(refuse, service_health=service_health) as api:
        await StatusWriter(api, lambda: NOW, "pod-1").post_event(REQUEST, Event("Normal", "Issued", "issued"))
        await api.request("GET", SECRET)

    # Requests that wait until the API server recovers are not retried.
    assert (posted, recovered) == ([EVENTS], [])


class HangingServer(ApiServer):
    """An API server that does not respond to Events."""

    async def _respond(self, method: str, path: str, *arguments: Any) -> ApiResponse:
        if path == EVENTS:
            self.requests.append(f"{method} {path}")
            await asyncio.sleep(HOUR.total_seconds())
        return await super()._respond(method, path, *arguments)


def test_events_that_hang_delay_only_one_reconciliation() -> None:
    server = HangingServer()
    status_writer = StatusWriter(server, lambda: NOW, "pod-1")

    async def seconds_to_post(events: int) -> float:
        began = asyncio.get_running_loop().time()
        for _ in range(events):
            await status_writer.post_event(REQUEST, Event("Normal", "Issued", "issued"))
        return asyncio.get_running_loop().time() - began

    async def post() -> tuple[float, float]:
        first = await seconds_to_post(100)
        await asyncio.sleep(30)
        return first, await seconds_to_post(100)

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        assert runner.run(post()) == (5, 5)
    assert server.count("POST") == 2
