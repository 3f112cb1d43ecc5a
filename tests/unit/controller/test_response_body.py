import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial

import msgspec
import pytest

from keyturn.controller.api_client import JSON
from keyturn.controller.response_body import (
    ONE,
    UnreadableBodyError,
    decode_event,
    decode_object,
    is_empty,
    read_body,
    read_lines,
    select,
)
from keyturn.core.errors import UnavailableError
from tests.support.api_endpoints import DEEP, FOUND, SECRET
from tests.support.memory_limiter import RecordingMemoryLimiter


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<html>", id="HTML"),
        pytest.param("", id="empty"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="an empty object"),
        pytest.param(FOUND[:-20], id="truncated"),
        pytest.param(FOUND.replace('"Secret"', '"ConfigMap"'), id="another kind"),
        pytest.param(FOUND.replace('"v1"', '"v2"'), id="another version"),
        pytest.param(FOUND.replace('"acme"', '"other"'), id="another name"),
        pytest.param(FOUND.replace('"billing"', '"other"'), id="another namespace"),
        pytest.param(FOUND.replace('"uid": "u", ', ""), id="no uid"),
        pytest.param(FOUND.replace('"7"', "7"), id="a version that is no string"),
        pytest.param(FOUND.replace('"data": {}', '"data": "token"'), id="data that is no object"),
        pytest.param('{"kind": "Secret", "apiVersion": "v1", "metadata": null}', id="metadata is null"),
        pytest.param(FOUND.replace('"data"', f'"x": {DEEP}, "data"'), id="nested too deeply"),
        pytest.param("\udcff", id="not UTF-8"),
    ],
)
def test_success_without_the_requested_object_is_unavailable(text: str) -> None:
    content = text.encode(errors="surrogateescape")
    with pytest.raises(UnavailableError):
        decode_object("PATCH", SECRET, {}, JSON, is_error=False, content=content)


@pytest.mark.parametrize("text", ["<html>", "", '{"message": "no"}', "404 page not found"])
def test_error_that_is_no_status_is_unavailable(text: str) -> None:
    with pytest.raises(UnavailableError, match="check proxies between Keyturn and the API server"):
        decode_object("GET", SECRET, {}, JSON, is_error=True, content=text.encode())


@pytest.mark.parametrize(
    ("method", "path", "accept", "api_version", "kind"),
    [
        ("GET", "/apis", JSON, "v1", "APIGroupList"),
        ("GET", "/apis/keyturn.dev/v1alpha1", JSON, "v1", "APIResourceList"),
        ("GET", "/api/v1/namespaces/billing/secrets/acme", ONE, "meta.k8s.io/v1", "PartialObjectMetadata"),
        ("PATCH", "/apis/keyturn.dev/v1alpha1/namespaces/billing/tokenrequests/acme/status", JSON,
         "keyturn.dev/v1alpha1", "TokenRequest"),
        ("POST", "/api/v1/namespaces/billing/events", JSON, "v1", "Event"),
        ("GET", "/apis/coordination.k8s.io/v1/leases", JSON, "coordination.k8s.io/v1", "LeaseList"),
        ("POST", "/api/v1/namespaces/billing/serviceaccounts/robot/token", JSON, "authentication.k8s.io/v1",
         "TokenRequest"),
        ("DELETE", "/api/v1/namespaces/billing/secrets/acme", JSON, "v1", "Secret"),
        ("DELETE", "/api/v1/namespaces/billing/secrets/acme", JSON, "v1", "Status"),
    ],
)  # fmt: skip
def test_object_is_expected_by_method_and_path(
    method: str, path: str, accept: str, api_version: str, kind: str
) -> None:
    body = json.loads(FOUND) | {
        "apiVersion": api_version, "kind": kind, "groups": [], "resources": [], "status": {"token": "x"},
    }  # fmt: skip
    decoded = decode_object(method, path, {}, accept, is_error=False, content=json.dumps(body).encode())
    assert decoded["kind"] == kind
    other = json.dumps(body | {"kind": "Other"}).encode()
    with pytest.raises(UnavailableError):
        decode_object(method, path, {}, accept, is_error=False, content=other)


def decoded_data(data: object) -> msgspec.Raw | None:
    body = json.dumps(json.loads(FOUND) | {"data": data}).encode()
    decoded: msgspec.Raw | None = decode_object("GET", SECRET, {}, JSON, is_error=False, content=body).get("data")
    return decoded


def test_only_selected_keys_of_data_are_decoded() -> None:
    data = decoded_data({"token": "eA==", "other": 1})

    assert select(data, ["token", "missing", "token.previous"]) == {"token": "eA=="}
    assert not is_empty(data)


def test_fields_that_users_can_fill_with_many_items_stay_encoded() -> None:
    secret = json.loads(FOUND)
    owners, fields = [{"uid": "o"}], [{"manager": "m"}]
    secret["metadata"] |= {"ownerReferences": owners, "managedFields": fields}
    content = json.dumps(secret | {"binaryData": {"a": "eA=="}}).encode()
    decoded = decode_object("GET", SECRET, {}, JSON, is_error=False, content=content)
    encoded = (decoded["binaryData"], decoded["metadata"]["ownerReferences"], decoded["metadata"]["managedFields"])

    assert [msgspec.json.decode(raw) for raw in encoded] == [{"a": "eA=="}, owners, fields]


@pytest.mark.parametrize("data", [{}, None])
def test_data_may_be_empty(data: object) -> None:
    assert select(decoded_data(data), ["token"]) == {}
    assert is_empty(decoded_data(data))


def test_value_that_is_no_text_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="data that is not text"):
        select(decoded_data({"token": 1}), ["token"])


class Chunks:
    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    async def iter_any(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


async def test_lines_may_span_chunks() -> None:
    content = Chunks(b"one\ntw", b"o\n\nth", b"ree\n", b"broken")

    assert [line async for line in read_lines(content, 10)] == [b"one\n", b"two\n", b"three\n"]


@pytest.mark.parametrize("chunks", [(b"123456789012\n",), (b"12345678901", b"2\n"), (b"1\n", b"12345678901")])
async def test_line_that_is_too_large_is_not_collected(chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(UnreadableBodyError, match="an event of more than 10 bytes"):
        [line async for line in read_lines(Chunks(*chunks), 10)]


async def test_slot_is_held_only_while_a_large_line_is_handled() -> None:
    limiter, large = RecordingMemoryLimiter(), b"x" * 200_000 + b"\n"
    content = Chunks(b"small\n" + large + b"small\n", large)
    holders = [limiter.held_now.copy() async for _ in read_lines(content, slot=partial(limiter.slot, "billing"))]

    assert holders == [[], ["billing"], [], ["billing"]]
    assert limiter.held_now == []


async def test_watch_that_waits_keeps_nothing_of_a_large_event() -> None:
    is_waiting = asyncio.Event()

    class Stream:
        async def iter_any(self) -> AsyncIterator[bytes]:
            yield b"x" * 10**6 + b"\n"
            is_waiting.set()
            await asyncio.Event().wait()

    async def watch() -> None:
        async for line in read_lines(Stream()):
            del line

    tracemalloc.start()
    try:
        task = asyncio.create_task(watch())
        await is_waiting.wait()
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    task.cancel()

    assert kept_bytes < 100_000


async def test_body_is_read_to_its_limit() -> None:
    assert await read_body(Chunks(b"12345", b"67890"), 10) == b"1234567890"
    with pytest.raises(UnreadableBodyError, match="more than 10 bytes") as raised:
        await read_body(Chunks(b"12345", b"67890", b"1", b"never"), 10)

    assert raised.value.head == b"12345678901"


async def test_body_over_its_limit_waits_for_no_slot() -> None:
    async def wait_for_slot() -> None:
        pytest.fail("the caller may hold a slot, and so may the callers that hold all others")

    with pytest.raises(UnreadableBodyError):
        await read_body(Chunks(b"1" * 200_000), 10, wait_for_slot)


def test_error_event_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="the watch ended with code 410"):
        decode_event(b'{"type":"ERROR","object":{"kind":"Status","code":410}}')
