"""Whatever the streams of the API server contain, nothing but the expected errors leaves them."""

import asyncio
import json
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from keyturn.controller.api_client import JSON, ApiResponse
from keyturn.controller.leader_election import Lease
from keyturn.controller.request_responses import RequestResponses
from keyturn.controller.response_body import Page, UnreadableBodyError, decode_object, decode_page, read_lines
from keyturn.controller.streams import Boundary
from keyturn.core.errors import UnavailableError
from keyturn.metrics import Metrics
from tests.support.api_endpoints import SECRET
from tests.support.api_server import ApiServer
from tests.support.dependencies import NOW
from tests.support.watch_server import WatchServer, events, line, listed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
METADATA = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("name", "namespace", "uid", "resourceVersion", "labels", "annotations", "managedFields", "continue"), VALUES
    ),
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["Secret", "Status", "TokenRequestList", "PartialObjectMetadataList"]) | VALUES,
        "apiVersion": st.sampled_from(["v1", "meta.k8s.io/v1", "keyturn.dev/v1alpha1"]) | VALUES,
        "metadata": METADATA | VALUES,
        "items": VALUES,
        "code": VALUES,
    },
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]) | VALUES,
        "object": OBJECTS | VALUES,
    },
)
VALID = line("ADDED", "b", 2)
BYTES = st.one_of(
    st.binary(max_size=50),
    st.sampled_from([b"<html>502</html>", b"null", b"{}", b"[]", b"", b"404 page not found"]),
    st.integers(1, len(VALID)).map(lambda end: VALID[:end]),
    (EVENTS | OBJECTS | VALUES).map(lambda value: json.dumps(value).encode()),
)


class Content:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._body


async def lines(body: bytes) -> list[bytes]:
    return [each async for each in read_lines(Content(body), 100)]


async def ignore_request(body: dict[str, Any], *, alive: bool) -> None:
    assert body["metadata"]["uid"]
    assert alive


def ignore(uids: AbstractSet[str], namespace: str) -> None:
    assert isinstance(uids, AbstractSet)
    assert namespace in ("", "billing")


@given(st.lists(BYTES, max_size=3))
def test_watch_of_secrets_survives_any_line(sent: list[bytes]) -> None:
    reported = events(WatchServer([listed("a")] * 10, [[each] for each in sent]))

    assert reported[0] == "+a"


@given(BYTES)
def test_list_is_a_page_or_an_expected_error(content: bytes) -> None:
    try:
        page = decode_page(content, "v1", "SecretList")
    except (UnavailableError, UnreadableBodyError):
        return
    assert isinstance(page, Page)


@given(BYTES, st.sampled_from(["GET", "POST", "PATCH", "DELETE"]), st.booleans())
def test_object_is_as_requested_or_unavailable(content: bytes, method: str, is_error: bool) -> None:  # noqa: FBT001
    try:
        body = decode_object(method, SECRET, {}, JSON, is_error=is_error, content=content)
    except UnavailableError:
        return
    assert body["kind"] == "Status" or body["metadata"]["name"] == "acme"


@given(st.lists(BYTES, max_size=3))
def test_watch_of_requests_passes_only_objects_to_kopf(sent: list[bytes]) -> None:
    responses = RequestResponses(ApiServer(), ignore_request, ignore, Boundary("request_watch", "the watch", Metrics()))

    async def received() -> list[dict[str, Any]]:
        stream: Any = Content(b"\n".join([*sent, b""]))
        return [json.loads(each) async for each in responses._events("/apis/x", stream)]

    for event in asyncio.run(received()):
        assert event["type"] == "ERROR" or event["object"]["metadata"]["resourceVersion"]


@given(OBJECTS | VALUES.map(lambda value: {"metadata": {"resourceVersion": "1"}, "spec": value}))
def test_lease_survives_any_object(body: dict[str, Any]) -> None:
    server = ApiServer()
    server.responses["GET /apis/coordination.k8s.io/v1/namespaces/keyturn/leases/keyturn"] = ApiResponse(200, body)
    lease = Lease(server, "keyturn", "keyturn", "one", lambda: NOW, Boundary("lease", "keeping the Lease", Metrics()))

    assert asyncio.run(lease.acquire_or_renew()) in (False, True)


@given(st.binary(max_size=300))
def test_lines_are_complete_or_too_large(body: bytes) -> None:
    try:
        received = asyncio.run(lines(body))
    except UnreadableBodyError:
        assert max(map(len, body.split(b"\n"))) >= 100
        return
    assert all(each.endswith(b"\n") for each in received)
