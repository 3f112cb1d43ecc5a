import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from keyturn.controller.api_client import ApiClient, ApiResponse
from keyturn.controller.secret_watch import Meta, watch
from keyturn.core.errors import UnavailableError

PATH = "/api/v1/secrets"


def item(name: str, version: int = 1) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "billing", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata}


def line(kind: str, name: str = "", version: int = 1, **more: Any) -> bytes:
    return json.dumps({"type": kind, "object": (item(name, version) if name else {}) | more}).encode()


def listed(*names: str, version: int = 1, remaining: str = "") -> ApiResponse:
    items = [item(name) for name in names] or None
    return ApiResponse(200, {"items": items, "metadata": {"resourceVersion": str(version), "continue": remaining}})


Round = list[bytes | Exception]


class WatchServer(ApiClient):
    """An API server that returns lists and watches in turn; after the last one, it sends nothing more."""

    def __init__(self, lists: list[ApiResponse | Exception], watches: list[Round]) -> None:
        self._lists = lists
        self._watches = watches
        self.queries: list[Mapping[str, str]] = []
        self.finished = asyncio.Event()

    async def request(self, *_: Any, query: Mapping[str, str] | None = None, **__: Any) -> ApiResponse:
        self.queries.append(query or {})
        response = self._lists.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    async def watch(self, _path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        self.queries.append(query)
        if not self._watches:
            self.finished.set()
            await asyncio.Event().wait()
        for one in self._watches.pop(0):
            if isinstance(one, Exception):
                raise one
            yield one


async def events(server: WatchServer) -> list[str]:
    """Watch until the server sends nothing more; return "+name" for each object and "-name" for each deletion."""
    reported: list[str] = []

    def on_secret(meta: Meta, alive: bool) -> None:  # noqa: FBT001 - the signature of the watch
        reported.append(f"{'+' if alive else '-'}{meta.name}")

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        event = asyncio.Event()
        task = tasks.create_task(watch(server, PATH, "a=b", on_secret, event))
        await server.finished.wait()
        task.cancel()
    assert event.is_set()
    return reported


async def test_list_and_changes_are_reported() -> None:
    changes: Round = [line("ADDED", "b", 2), line("MODIFIED", "a", 3), line("DELETED", "b", 4)]

    assert await events(WatchServer([listed("a")], [changes])) == ["+a", "+b", "+a", "-b"]


async def test_null_is_an_empty_list() -> None:
    assert await events(WatchServer([listed()], [[line("ADDED", "a")]])) == ["+a"]


async def test_list_is_read_page_by_page() -> None:
    server = WatchServer([listed("a", remaining="more"), listed("b")], [])

    assert await events(server) == ["+a", "+b"]
    assert server.queries[1]["continue"] == "more"


async def test_watch_resumes_at_the_last_version() -> None:
    server = WatchServer([listed("a", version=5)], [[line("ADDED", "b", 7)], []])
    await events(server)

    assert [query["resourceVersion"] for query in server.queries[1:]] == ["5", "7", "7"]


async def test_bookmark_moves_the_version_and_is_not_reported() -> None:
    server = WatchServer([listed("a", version=5)], [[line("BOOKMARK", metadata={"resourceVersion": "9"})]])

    assert await events(server) == ["+a"]
    assert server.queries[-1]["resourceVersion"] == "9"


async def test_expired_version_is_listed_again_and_deletions_reported() -> None:
    expired = line("ERROR", code=410)
    server = WatchServer([listed("a", "b"), listed("b", "c")], [[line("ADDED", "d", 2), expired]])

    reported = await events(server)

    assert reported[:5] == ["+a", "+b", "+d", "+b", "+c"]
    assert sorted(reported[5:]) == ["-a", "-d"]


async def test_watch_resumes_after_another_error_in_the_stream() -> None:
    server = WatchServer([listed("a", version=5)], [[line("ERROR", code=500)]])

    assert await events(server) == ["+a"]
    assert server.queries[-1]["resourceVersion"] == "5"


@pytest.mark.parametrize(
    ("error", "relists"),
    [
        pytest.param(aiohttp.ServerDisconnectedError(), False, id="connection lost: resume"),
        pytest.param(
            aiohttp.ClientResponseError(None, (), status=410),  # type: ignore[arg-type]
            True,
            id="version expired: list again",
        ),
    ],
)
async def test_broken_watch_resumes_or_lists_again(error: Exception, *, relists: bool) -> None:
    server = WatchServer([listed("a"), listed("a")], [[error]])

    assert await events(server) == ["+a", "+a"] if relists else ["+a"]


async def test_broken_watch_is_logged_once_per_cause(caplog: pytest.LogCaptureFixture) -> None:
    refused = aiohttp.ClientResponseError(None, (), status=403)  # type: ignore[arg-type]
    disconnected = aiohttp.ServerDisconnectedError()
    await events(WatchServer([listed("a")], [[refused], [refused], [disconnected]]))

    assert caplog.messages == [
        f"the watch of {PATH} broke ({why}); retrying" for why in ("HTTP 403", "ServerDisconnectedError")
    ]


async def test_watch_that_stays_broken_is_logged_again_after_the_interval(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyturn.controller.secret_watch._LOG_INTERVAL_SECONDS", 0)
    refused = aiohttp.ClientResponseError(None, (), status=403)  # type: ignore[arg-type]
    await events(WatchServer([listed("a")], [[refused], [refused]]))

    assert caplog.messages == [f"the watch of {PATH} broke (HTTP 403); retrying"] * 2


async def test_failed_list_is_retried() -> None:
    server = WatchServer([UnavailableError("Unreachable", "no response"), listed("a")], [])

    assert await events(server) == ["+a"]


async def test_list_whose_pages_expired_is_restarted() -> None:
    server = WatchServer([listed("a", remaining="more"), ApiResponse(410, {}), listed("b")], [])

    assert await events(server) == ["+a", "+b", "-a"]


async def test_object_nested_too_deeply_is_ignored() -> None:
    deep = b'{"type":"MODIFIED","object":{"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_002
    server = WatchServer([listed("a")], [[deep, line("ADDED", "b", 2)]])

    assert await events(server) == ["+a", "+b"]


async def test_callback_error_for_one_object_does_not_stop_the_others() -> None:
    reported: list[str] = []

    def on_secret(meta: Meta, _alive: bool) -> None:  # noqa: FBT001 - the signature of the watch
        if meta.name == "forged":
            raise OverflowError
        reported.append(meta.name)

    server = WatchServer([listed("forged", "b")], [])
    watching = asyncio.create_task(watch(server, PATH, "x=y", on_secret, asyncio.Event()))
    await server.finished.wait()
    watching.cancel()

    assert reported == ["b"]
