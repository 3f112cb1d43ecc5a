import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import kopf
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration
from yarl import URL

from keyturn.api.token_request import InvalidRequest
from keyturn.controller import request_responses
from keyturn.controller.kopf_adapter import kopf_session
from keyturn.controller.request_index import read_request
from keyturn.controller.request_responses import RequestResponses
from keyturn.controller.streams import LONGEST_RECONNECT_SECONDS, Backoff, Boundary, Breaks
from keyturn.metrics import Metrics
from tests.support.api_endpoints import DEEP, served

ALL = "/apis/keyturn.dev/v1alpha1/tokenrequests"
KINDS = "/apis/keyturn.dev/v1alpha1"
BILLING = "/apis/keyturn.dev/v1alpha1/namespaces/billing/tokenrequests"
WATCH = f"{ALL}?watch=true&resourceVersion=5"
EXPIRED = [{"type": "ERROR", "object": {"code": 410}}]


def token_request(uid: str, version: int = 5, **metadata: Any) -> dict[str, Any]:
    fields = {"name": f"name-{uid}", "namespace": "billing", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": fields | metadata, "spec": {"region": "eu-west-1"}}


def page(*uids: str, more: str = "", version: int = 5) -> dict[str, Any]:
    metadata = {"continue": more, "resourceVersion": str(version)}
    kind = {"apiVersion": "keyturn.dev/v1alpha1", "kind": "TokenRequestList"}
    return kind | {"metadata": metadata, "items": [token_request(uid) for uid in uids]}


def event(kind: str, uid: str, version: int) -> str:
    return json.dumps({"type": kind, "object": token_request(uid, version)})


class FakeApi:
    """Returns these bodies by the query without `limit`: a status, JSON or text. `version` is what a check finds."""

    def __init__(self, bodies: Mapping[str, Any], version: int = 5) -> None:
        self._bodies = bodies
        self._version = version
        self.limits: list[str] = []

    async def response(self, request: web.Request) -> web.Response:
        if "PartialObjectMetadataList" in request.headers["Accept"]:
            metadata = {
                "resourceVersion": str(self._version),
                "continue": "2" if "continue" not in request.query else "",
            }
            kind = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            return web.json_response(kind | {"metadata": metadata, "items": []})
        self.limits.append(request.query.get("limit", ""))
        query = {name: value for name, value in request.query.items() if name != "limit"}
        body = self._bodies.get(str(URL(request.path).with_query(query)))
        if body is None or isinstance(body, int):
            headers = {"Retry-After": "86400", "Location": ALL}
            return web.json_response({"kind": "Status", "message": "no right"}, status=body or 404, headers=headers)
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, content_type="application/json")


class Recorder:
    """kopf's session, and the objects and the lists that were reported."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.lists: list[tuple[set[str], str]] = []
        self.known: list[Mapping[str, Any]] = []
        self.metrics = Metrics()
        self.session: aiohttp.ClientSession
        self.secrets_listed = {"": asyncio.Event(), "billing": asyncio.Event()}
        self.may_list = self.secrets_listed[""]
        self.may_list.set()
        self.may_continue = asyncio.Event()
        self.may_continue.set()
        self.unlisted: Callable[[], str]
        self.on_restored: Callable[[], None]

    async def on_request(self, body: dict[str, Any], *, alive: bool) -> None:
        if body["metadata"]["uid"] == "bad":
            raise ValueError("a bug")
        if not alive:
            self.deleted.append(body["metadata"]["uid"])
            return
        self.received.append(body)
        await self.may_continue.wait()

    def on_list(self, uids: AbstractSet[str], namespace: str) -> None:
        self.lists.append((set(uids), namespace))

    async def wait_for_secrets(self, namespace: str) -> None:
        await self.secrets_listed[namespace].wait()

    def is_known(self, metadata: Mapping[str, Any]) -> bool:
        self.known.append(metadata)
        return bool(metadata["uid"] == "known")

    async def uids(self, path: str) -> list[str]:
        before = len(self.received)
        async with self.session.get(path) as response:
            assert (await response.json())["items"] == []
        return [item["metadata"]["uid"] for item in self.received[before:]]

    async def watched(self, path: str) -> list[dict[str, Any]]:
        async with self.session.get(path) as response:
            return [json.loads(line) async for line in response.content.iter_chunked(2**20)]


def bookmark(version: int) -> dict[str, Any]:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}


@asynccontextmanager
async def connected(api: FakeApi) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    async with served(api.response) as client:
        info = kopf.ConnectionInfo(server=client._client.configuration.host)
        boundary = Boundary("request_watch", "the watch", recorder.metrics)
        responses = RequestResponses(
            client,
            recorder.on_request,
            recorder.on_list,
            boundary,
            recorder.wait_for_secrets,
            is_known=recorder.is_known,
        )
        async with kopf_session(info, Configuration(), responses).aiohttp_session as recorder.session:
            recorder.session._base_url = URL(info.server)
            recorder.unlisted, recorder.on_restored = responses.unlisted, responses.on_restored
            yield recorder


async def test_list_is_reported_after_its_last_page() -> None:
    bodies = {ALL: page("a", more="2"), f"{ALL}?continue=2": page("b", more="3"), f"{ALL}?continue=3": page("c")}
    async with connected(FakeApi(bodies)) as kopf_client:
        for path in (ALL, f"{ALL}?continue=2", ALL, f"{ALL}?continue=2", f"{ALL}?continue=3"):
            assert await kopf_client.uids(path)

    assert kopf_client.lists == [({"a", "b", "c"}, "")]


async def test_bug_with_one_object_does_not_hide_the_others() -> None:
    async with connected(FakeApi({ALL: page("bad", "b")})) as kopf_client:
        assert await kopf_client.uids(ALL) == ["b"]

    assert kopf_client.lists == [({"bad", "b"}, "")]


@pytest.mark.parametrize("path", [ALL, WATCH])
async def test_other_work_continues_between_objects(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks: list[None] = []

    async def take(_: Breaks) -> None:
        breaks.append(None)

    monkeypatch.setattr(Breaks, "take", take)
    lines = "".join(event("ADDED", uid, 6) + "\n" for uid in "abc")
    lines = lines.replace('"eu-west-1"', DEEP, 1)
    async with connected(FakeApi({WATCH: lines, ALL: page("a", "b", "c")})) as kopf_client:
        await (kopf_client.watched(path) if path == WATCH else kopf_client.uids(path))

    assert len(breaks) == 3


async def test_list_of_a_namespace_is_reported_for_it() -> None:
    async with connected(FakeApi({BILLING: page("a")})) as kopf_client:
        kopf_client.secrets_listed["billing"].set()
        await kopf_client.uids(BILLING)

    assert kopf_client.lists == [({"a"}, "billing")]


async def test_requests_are_listed_after_the_secrets_of_their_namespace() -> None:
    async with connected(FakeApi({ALL: page("a"), BILLING: page("b")})) as kopf_client:
        billing = asyncio.create_task(kopf_client.uids(BILLING))
        await kopf_client.uids(ALL)
        assert kopf_client.lists == [({"a"}, "")]
        kopf_client.secrets_listed["billing"].set()
        await billing
        assert kopf_client.lists == [({"a"}, ""), ({"b"}, "billing")]


async def test_missing_crd_is_handled_like_a_lost_connection() -> None:
    async with connected(FakeApi({})) as kopf_client:
        with pytest.raises(aiohttp.ClientConnectionError, match=r"tokenrequests\.keyturn\.dev: HTTP 404"):
            await kopf_client.session.get(ALL)
        assert (await kopf_client.session.get("/apis/other")).status == 404

    assert kopf_client.lists == []


@pytest.mark.parametrize(
    ("path", "complete", "incomplete"),
    [
        pytest.param(
            "/apis", {"groups": [{"name": "apps"}, {"name": "keyturn.dev"}]}, {"groups": [{"name": "apps"}]}, id="group"
        ),
        pytest.param(KINDS, {"resources": [{"name": "tokenrequests"}]}, {"resources": []}, id="version"),
        pytest.param(KINDS, {"resources": [{"name": "tokenrequests"}]}, "404 page not found", id="text"),
        pytest.param(KINDS, {"resources": [{"name": "tokenrequests"}]}, 404, id="no version"),
    ],
)
async def test_kopf_searches_until_the_resource_is_found(path: str, complete: Any, incomplete: Any) -> None:
    bodies = {path: incomplete}
    async with connected(FakeApi(bodies)) as kopf_client:
        with pytest.raises(aiohttp.ClientConnectionError, match="does not list"):
            await kopf_client.session.get(path)
        bodies[path] = complete
        assert await (await kopf_client.session.get(path)).json() == complete


@pytest.mark.parametrize("path", [BILLING, f"{BILLING}?watch=true", "/apis"])
@pytest.mark.parametrize("status", [302, 401, 409, 429])
async def test_kopf_sends_a_request_again_within_seconds(path: str, status: int) -> None:
    async with connected(FakeApi({path: status, ALL: page("a")})) as kopf_client:
        kopf_client.secrets_listed["billing"].set()
        with pytest.raises(aiohttp.ClientConnectionError, match=f"HTTP {status}"):
            await kopf_client.session.get(path)

    assert kopf_client.received == []


@pytest.mark.parametrize("has_headers", [True, False])
async def test_list_that_hangs_is_requested_again(monkeypatch: pytest.MonkeyPatch, *, has_headers: bool) -> None:
    monkeypatch.setattr(request_responses, "_PAGE_SECONDS", 0.2)
    api = FakeApi({ALL: page("a")})
    respond, requests, ends = api.response, 0, asyncio.Event()

    async def hang_first(request: web.Request) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        if requests > 1:
            return await respond(request)
        response = web.StreamResponse()
        if has_headers:
            await response.prepare(request)
        await ends.wait()
        return response

    api.response = hang_first  # type: ignore[assignment,method-assign]
    async with connected(api) as kopf_client:
        with pytest.raises(TimeoutError):
            await kopf_client.session.get(ALL)
        assert await kopf_client.uids(ALL) == ["a"]
        ends.set()


async def test_slow_list_is_awaited_longer_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_responses, "_PAGE_SECONDS", 0.1)
    api = FakeApi({ALL: page("a", more="2"), f"{ALL}?continue=2": page("b")})
    respond = api.response

    async def respond_slowly(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.3)
        return await respond(request)

    api.response = respond_slowly  # type: ignore[assignment,method-assign]
    async with connected(api) as kopf_client:
        with pytest.raises(TimeoutError):
            await kopf_client.session.get(ALL)
        assert await kopf_client.uids(ALL) == ["a"]
        assert await kopf_client.uids(f"{ALL}?continue=2") == ["b"]
        # The limit is that of the first time again.
        with pytest.raises(TimeoutError):
            await kopf_client.session.get(ALL)


async def test_missing_right_is_reported_until_there_is_a_list() -> None:
    bodies: dict[str, Any] = {ALL: 403}
    async with connected(FakeApi(bodies)) as kopf_client:
        await kopf_client.session.get(ALL)
        assert kopf_client.unlisted() == "listing tokenrequests.keyturn.dev: no right"
        bodies[ALL] = page("a")
        await kopf_client.uids(ALL)
        assert not kopf_client.unlisted()


async def test_list_whose_pages_expired_is_restarted() -> None:
    async with connected(FakeApi({f"{ALL}?continue=2": 410})) as kopf_client:
        # After a lost connection, kopf requests the same page again: only a broken response ends the list.
        with pytest.raises(aiohttp.ClientPayloadError, match="the list expired"):
            await kopf_client.session.get(f"{ALL}?continue=2")


async def test_only_the_fields_that_are_used_are_kept() -> None:
    body = page("a")
    body["items"][0]["metadata"] |= {
        "annotations": {"keyturn.dev/renew-requested-at": "1" * 300, "note": "x"},
        "labels": {"team": "a"},
        "managedFields": [{"manager": "kubectl"}],
        "generation": 3,
    }
    async with connected(FakeApi({ALL: body})) as kopf_client:
        await kopf_client.uids(ALL)

    (received,) = kopf_client.received
    metadata = received["metadata"]
    assert received["spec"] == {"region": "eu-west-1"}
    assert metadata.pop("annotations") == {"keyturn.dev/renew-requested-at": "1" * 128}
    assert set(metadata) == {"name", "namespace", "uid", "resourceVersion", "generation"}


async def test_page_that_is_too_large_is_requested_in_smaller_pages() -> None:
    class LargePages(FakeApi):
        async def response(self, request: web.Request) -> web.Response:
            self.limits.append(request.query["limit"])
            body = page("a", "b" if int(request.query["limit"]) < 20 else "<" * 5_000_000)
            return web.json_response(body)

    api = LargePages({})
    async with connected(api) as kopf_client:
        assert await kopf_client.uids(ALL) == ["a", "b"]

    assert api.limits == ["500", "100", "20", "4"]


async def test_pages_that_are_too_large_at_the_same_time_hide_no_request() -> None:
    paths = [f"{KINDS}/namespaces/{number}/tokenrequests" for number in range(6)]
    all_requested = asyncio.Event()

    class LargeFirstPages(FakeApi):
        async def response(self, request: web.Request) -> web.Response:
            if request.query.get("limit") == "500":
                self.limits.append("500")
                if len(self.limits) == len(paths):
                    all_requested.set()
                await all_requested.wait()
                return web.json_response(page("a" * 5_000_000))
            return await super().response(request)

    async with connected(LargeFirstPages({path: page(path) for path in paths})) as kopf_client:
        kopf_client.secrets_listed = defaultdict(lambda: kopf_client.may_list)
        await asyncio.gather(*map(kopf_client.uids, paths))

    assert {uid for uids, _ in kopf_client.lists for uid in uids} == set(paths)


async def test_few_large_pages_are_in_memory_at_a_time() -> None:
    paths = [f"{ALL.replace('/tokenrequests', '')}/namespaces/{number}/tokenrequests" for number in range(10)]
    async with connected(FakeApi({path: page("a" * 200_000) for path in paths})) as kopf_client:
        kopf_client.secrets_listed = defaultdict(lambda: kopf_client.may_list)
        kopf_client.may_continue.clear()
        async with asyncio.TaskGroup() as tasks:
            for path in paths:
                tasks.create_task(kopf_client.uids(path))
            await asyncio.sleep(1)
            at_once = len(kopf_client.received)
            kopf_client.may_continue.set()

        assert (at_once, len(kopf_client.received)) == (4, 10)


async def test_few_large_events_are_in_memory_at_a_time() -> None:
    paths = [f"{KINDS}/namespaces/{number}/tokenrequests?watch=true&resourceVersion=5" for number in range(10)]
    begun, may_end = list[bytes](), asyncio.Event()
    async with connected(FakeApi({path: event("MODIFIED", "a" * 200_000, 6) + "\n" for path in paths})) as kopf_client:

        async def watch(path: str) -> None:
            async with kopf_client.session.get(path) as response:
                async for line in response.content.iter_chunked(2**20):
                    begun.append(line)
                    await may_end.wait()

        async with asyncio.TaskGroup() as tasks:
            for path in paths:
                tasks.create_task(watch(path))
            await asyncio.sleep(1)
            at_once = len(begun)
            may_end.set()

    assert (at_once, len(begun)) == (4, 10)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(page("a" * 5_000_000, more="2"), id="too large"),
        pytest.param(json.dumps(page("a", more="2")).replace('"eu-west-1"', DEEP), id="nested too deeply"),
    ],
)
async def test_request_that_cannot_be_read_is_left_out(first: object) -> None:
    async with connected(FakeApi({ALL: first, f"{ALL}?continue=2": page("b")})) as kopf_client:
        assert await kopf_client.uids(ALL) == []
        assert await kopf_client.uids(f"{ALL}?continue=2") == ["b"]

    assert kopf_client.lists == [({"b"}, "")]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param('{"type":"ADDED","obj', id="a truncated line"),
        pytest.param("<html>502</html>", id="HTML"),
        pytest.param("null", id="null"),
        pytest.param("{}", id="an empty object"),
        pytest.param('{"type":"ADDED","object":{"metadata":null}}', id="metadata is null"),
        pytest.param('{"type":"ERROR","object":{"code":500}}', id="an error"),
        pytest.param('{"type":"ERROR","object":{"code":410}}', id="an expired version"),
        pytest.param(event("ADDED", "b" * 5_000_000, 6), id="too large"),
    ],
)
async def test_unexpected_line_makes_kopf_list_again(sent: str) -> None:
    watch = f"{ALL}?watch=true&resourceVersion=5"
    async with connected(FakeApi({ALL: page("a"), watch: f"{event('ADDED', 'c', 6)}\n{sent}\n"})) as kopf_client:
        await kopf_client.uids(ALL)
        received = await kopf_client.watched(watch)

    assert kopf_client.received[-1]["metadata"]["uid"] == "c"
    assert received == [bookmark(6), *EXPIRED]


async def test_event_that_is_nested_too_deeply_does_not_end_the_watch() -> None:
    watch = f"{ALL}?watch=true&resourceVersion=5"
    deep = event("ADDED", "b", 6).replace('"eu-west-1"', DEEP)
    async with connected(FakeApi({ALL: page("a"), watch: f"{deep}\n{event('ADDED', 'c', 7)}\n"})) as kopf_client:
        await kopf_client.uids(ALL)
        received = await kopf_client.watched(watch)

    assert kopf_client.received[-1]["metadata"]["uid"] == "c"
    # The next list shows whether the object was deleted.
    assert received == [bookmark(7), *EXPIRED]


async def test_watch_that_is_cut_after_a_deep_event_makes_kopf_list_again() -> None:
    deep = event("ADDED", "b", 6).replace('"eu-west-1"', DEEP)
    bodies = {ALL: page("a"), WATCH: f"{deep}\n{event('ADDED', 'c', 7)}\n"}
    async with connected(FakeApi(bodies, version=7)) as kopf_client:
        await kopf_client.uids(ALL)
        async with kopf_client.session.get(WATCH) as response:
            await anext(aiter(response.content.iter_chunked(2**20)))

        assert await kopf_client.watched(WATCH) == EXPIRED


@pytest.mark.parametrize("status", [400, 410])
async def test_refused_watch_of_a_version_makes_kopf_list_again(status: int) -> None:
    watch = f"{ALL}?watch=true&resourceVersion=5"
    async with connected(FakeApi({ALL: page("a"), watch: status})) as kopf_client:
        assert await kopf_client.watched(watch) == EXPIRED


async def test_etcd_that_was_restored_is_listed_again_as_if_new() -> None:
    watch = f"{ALL}?watch=true&resourceVersion=5"
    async with connected(FakeApi({ALL: page("a"), watch: event("ADDED", "c", 6)}, version=4)) as kopf_client:
        await kopf_client.uids(ALL)
        received = await kopf_client.watched(watch)

    assert received == EXPIRED
    assert kopf_client.lists == [({"a"}, ""), (set(), "")]


async def test_restore_that_only_a_lease_shows_is_listed_again() -> None:
    watch = f"{ALL}?watch=true&resourceVersion=5"
    bodies: dict[str, Any] = {ALL: page("a"), watch: 403}
    async with connected(FakeApi(bodies)) as kopf_client:
        await kopf_client.uids(ALL)
        kopf_client.on_restored()
        # The API server refuses the watch while it starts.
        await kopf_client.session.get(watch)
        bodies[watch] = f"{event('ADDED', 'c', 6)}\n"
        expired = await kopf_client.watched(watch)
        await kopf_client.uids(ALL)
        received = await kopf_client.watched(watch)

    assert (expired, received) == (EXPIRED, [bookmark(6)])
    assert kopf_client.lists == [({"a"}, ""), (set(), ""), (set(), ""), ({"a"}, "")]


async def test_bookmark_with_a_lower_version_is_ignored() -> None:
    watch = f"{ALL}?watch=true&resourceVersion=5"
    behind = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "3"}}})
    async with connected(FakeApi({ALL: page("a"), watch: f"{behind}\n{event('ADDED', 'c', 6)}\n"})) as kopf_client:
        await kopf_client.uids(ALL)
        received = await kopf_client.watched(watch)

    assert received == [bookmark(6)]


async def test_change_of_a_known_object_is_ignored() -> None:
    watch = f"{ALL}?watch=true&resourceVersion=5"
    changed = {"generation": 2, "annotations": {"keyturn.dev/renew-requested-at": "1"}}
    echo = json.dumps({"type": "MODIFIED", "object": token_request("known", 6, **changed)})
    others = (event("MODIFIED", "new", 7), event("ADDED", "known", 8), event("DELETED", "known", 9))
    async with connected(FakeApi({ALL: page("known"), watch: "\n".join((echo, *others, ""))})) as kopf_client:
        await kopf_client.uids(ALL)
        received = await kopf_client.watched(watch)

    # kopf resumes at the version of the last line that it has received.
    assert received == [bookmark(version) for version in (6, 7, 8, 9)]
    assert [body["metadata"]["uid"] for body in kopf_client.received] == ["known", "new", "known"]
    assert kopf_client.deleted == ["known"]
    assert [metadata["uid"] for metadata in kopf_client.known] == ["known", "new"]
    assert changed.items() <= kopf_client.known[0].items()


async def test_known_object_with_a_lower_version_ends_the_watch() -> None:
    watch = f"{ALL}?watch=true&resourceVersion=5"
    lines = f"{event('MODIFIED', 'known', 3)}\n{event('ADDED', 'c', 6)}\n"
    async with connected(FakeApi({ALL: page("known"), watch: lines})) as kopf_client:
        await kopf_client.uids(ALL)
        assert await kopf_client.watched(watch) == []


async def test_watch_that_ends_at_once_is_not_requested_in_a_loop() -> None:
    watch = f"{ALL}?watch=true&resourceVersion=5"
    async with connected(FakeApi({ALL: page("a"), watch: ""})) as kopf_client:
        await kopf_client.uids(ALL)
        started = asyncio.get_running_loop().time()
        for _ in range(3):
            await kopf_client.watched(watch)

    assert asyncio.get_running_loop().time() - started >= 3


class CutApi(FakeApi):
    """Breaks the connection of each watch."""

    async def response(self, request: web.Request) -> web.Response:
        if "watch" in request.query and request.transport:
            await web.StreamResponse().prepare(request)
            request.transport.abort()
        return await super().response(request)


async def test_watch_that_is_cut_again_and_again_is_resumed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    longest_pauses: list[float] = []

    def next_pause(_: Backoff, longest: float) -> float:
        longest_pauses.append(longest)
        return 0.0

    monkeypatch.setattr(Backoff, "next_pause", next_pause)
    async with connected(CutApi({ALL: page("a")})) as kopf_client:
        await kopf_client.uids(ALL)
        for _ in range(3):
            with pytest.raises(aiohttp.ClientPayloadError):
                await kopf_client.watched(WATCH)

    assert longest_pauses == [LONGEST_RECONNECT_SECONDS] * 2


async def test_large_status_is_not_kept() -> None:
    listed, statuses = page("large", "small"), {"large": {"secretName": "x" * 33_000}, "small": {"revision": 3}}
    for item in listed["items"]:
        item["status"] = statuses[item["metadata"]["uid"]]
    async with connected(FakeApi({ALL: listed})) as kopf_client:
        await kopf_client.uids(ALL)

    large, small = kopf_client.received
    assert ("status" in large, small["status"]) == (False, {"revision": 3})


async def test_spec_that_takes_too_much_memory_is_not_kept() -> None:
    # One such character makes the other 50,000 take four bytes each.
    texts = {"large": "\U0001f511" + "a" * 50_000, "ascii": "a" * 150_000}
    listed = page(*texts)
    for item in listed["items"]:
        item["spec"]["region"] = texts[item["metadata"]["uid"]]
    async with connected(FakeApi({ALL: listed})) as kopf_client:
        await kopf_client.uids(ALL)

    large, in_ascii = kopf_client.received
    assert ("spec" in large, in_ascii["spec"]) == (False, {"region": texts["ascii"]})
    request = read_request(large)
    assert isinstance(request, InvalidRequest)
    assert "KiB of memory, but at most 192 KiB are allowed" in request.message
