import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from keyturn.controller.api_client import ApiClient, ApiResponse
from keyturn.controller.secret_watch import Fields, Meta, watch
from keyturn.core.errors import UnavailableError

PATH = "/api/v1/secrets"


def item(name: str, version: int = 1) -> dict[str, Any]:
    about = {"name": name, "namespace": "billing", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": about}


def line(kind: str, name: str = "", version: int = 1, **more: Any) -> bytes:
    return json.dumps({"type": kind, "object": (item(name, version) if name else {}) | more}).encode()


def listed(*names: str, version: int = 1, remaining: str = "") -> ApiResponse:
    items = [item(name) for name in names] or None
    return ApiResponse(200, {"items": items, "metadata": {"resourceVersion": str(version), "continue": remaining}})


Round = list[bytes | Exception]


class Watched(ApiClient):
    """An API server that answers lists and watches in turn; after the last watch nothing happens any more."""

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


async def told(server: Watched) -> list[str]:
    """Watch until the server has nothing more to say: "+name" for what is there, "-name" for what is gone."""
    cache: list[str] = []

    def see(meta: Meta, alive: bool) -> None:  # noqa: FBT001 - the watch's own shape
        cache.append(f"{'+' if alive else '-'}{meta.name}")

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        event = asyncio.Event()
        task = tasks.create_task(watch(server, PATH, "a=b", see, event))
        await server.finished.wait()
        task.cancel()
    assert event.is_set()
    return cache


async def test_a_list_and_then_the_changes() -> None:
    changes: Round = [line("ADDED", "b", 2), line("MODIFIED", "a", 3), line("DELETED", "b", 4)]

    assert await told(Watched([listed("a")], [changes])) == ["+a", "+b", "+a", "-b"]


async def test_an_empty_list_comes_as_null() -> None:
    assert await told(Watched([listed()], [[line("ADDED", "a")]])) == ["+a"]


async def test_a_list_comes_page_by_page() -> None:
    server = Watched([listed("a", remaining="more"), listed("b")], [])

    assert await told(server) == ["+a", "+b"]
    assert server.queries[1]["continue"] == "more"


async def test_a_watch_goes_on_from_the_last_version() -> None:
    server = Watched([listed("a", version=5)], [[line("ADDED", "b", 7)], []])
    await told(server)

    assert [query["resourceVersion"] for query in server.queries[1:]] == ["5", "7", "7"]


async def test_a_bookmark_moves_the_version_and_is_not_told() -> None:
    server = Watched([listed("a", version=5)], [[line("BOOKMARK", metadata={"resourceVersion": "9"})]])

    assert await told(server) == ["+a"]
    assert server.queries[-1]["resourceVersion"] == "9"


async def test_a_version_that_is_gone_is_listed_anew_and_tells_who_is_gone() -> None:
    expired = line("ERROR", code=410)
    server = Watched([listed("a", "b"), listed("b", "c")], [[line("ADDED", "d", 2), expired]])

    cache = await told(server)

    assert cache[:5] == ["+a", "+b", "+d", "+b", "+c"]
    assert sorted(cache[5:]) == ["-a", "-d"]


async def test_another_error_in_the_stream_goes_on_from_where_it_was() -> None:
    server = Watched([listed("a", version=5)], [[line("ERROR", code=500)]])

    assert await told(server) == ["+a"]
    assert server.queries[-1]["resourceVersion"] == "5"


@pytest.mark.parametrize(
    ("broken", "again"),
    [
        pytest.param(aiohttp.ServerDisconnectedError(), False, id="cut: it goes on"),
        pytest.param(
            aiohttp.ClientResponseError(None, (), status=410),  # type: ignore[arg-type]
            True,
            id="refused, for the version is gone: it is listed anew",
        ),
    ],
)
async def test_a_watch_that_breaks(broken: Exception, *, again: bool) -> None:
    server = Watched([listed("a"), listed("a")], [[broken]])

    assert await told(server) == ["+a", "+a"] if again else ["+a"]


async def test_a_break_is_told_by_its_status_and_once(caplog: pytest.LogCaptureFixture) -> None:
    refused = aiohttp.ClientResponseError(None, (), status=403)  # type: ignore[arg-type]
    cut = aiohttp.ServerDisconnectedError()
    await told(Watched([listed("a")], [[refused], [refused], [cut]]))

    assert caplog.messages == [
        f"the watch of {PATH} broke ({why}); it goes on" for why in ("HTTP 403", "ServerDisconnectedError")
    ]


async def test_a_break_that_stays_is_told_again_after_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyturn.controller.secret_watch._SAY_AGAIN_SECONDS", 0)
    refused = aiohttp.ClientResponseError(None, (), status=403)  # type: ignore[arg-type]
    await told(Watched([listed("a")], [[refused], [refused]]))

    assert caplog.messages == [f"the watch of {PATH} broke (HTTP 403); it goes on"] * 2


async def test_a_list_that_fails_is_tried_again() -> None:
    server = Watched([UnavailableError("Unreachable", "no answer"), listed("a")], [])

    assert await told(server) == ["+a"]


async def test_a_list_whose_pages_have_expired_starts_again() -> None:
    server = Watched([listed("a", remaining="more"), ApiResponse(410, {}), listed("b")], [])

    assert await told(server) == ["+a", "+b", "-a"]


def test_the_keys_that_a_manager_owns() -> None:
    fields = Fields(fields_v1={"f:data": {".": {}, "f:token": {}, "f:a.b": {}}, "f:metadata": {"f:labels": {}}})

    assert fields.data_keys() == {"token", "a.b"}
    assert Fields().data_keys() == frozenset()


async def test_an_object_nested_too_deeply_is_passed_over() -> None:
    deep = b'{"type":"MODIFIED","object":{"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_002
    server = Watched([listed("a")], [[deep, line("ADDED", "b", 2)]])

    assert await told(server) == ["+a", "+b"]


async def test_who_is_told_may_fail_at_one_object_and_is_told_of_the_others() -> None:
    cache: list[str] = []

    def see(meta: Meta, _alive: bool) -> None:  # noqa: FBT001 - the watch's own shape
        if meta.name == "forged":
            raise OverflowError
        cache.append(meta.name)

    server = Watched([listed("forged", "b")], [])
    watching = asyncio.create_task(watch(server, PATH, "x=y", see, asyncio.Event()))
    await server.finished.wait()
    watching.cancel()

    assert cache == ["b"]
