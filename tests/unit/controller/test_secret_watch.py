import asyncio
import gc
import itertools
import time
import tracemalloc
from typing import Any

import aiohttp
import msgspec
import pytest

from keyturn.controller import streams
from keyturn.controller.response_body import Page, UnreadableBodyError
from keyturn.controller.secret_watch import ManagedFields, Owner, SecretMeta, SecretWatch, read_item
from keyturn.controller.streams import Boundary
from keyturn.core.errors import UnavailableError
from keyturn.metrics import Metrics
from tests.support.watch_server import PATH, Round, WatchServer, events, item, line, listed


def test_list_and_changes_are_reported() -> None:
    changes: Round = [line("ADDED", "b", 2), line("MODIFIED", "a", 3), line("DELETED", "b", 4)]

    assert events(WatchServer([listed("a")], [changes])) == ["+a", "+b", "+a", "-b"]


def test_null_is_an_empty_list() -> None:
    assert events(WatchServer([listed()], [[line("ADDED", "a")]])) == ["+a"]


def test_list_is_read_page_by_page() -> None:
    server = WatchServer([listed("a", remaining="more"), listed("b")], [])

    assert events(server) == ["+a", "+b"]
    assert server.queries[1]["continue"] == "more"


def test_watch_resumes_at_the_last_version() -> None:
    server = WatchServer([listed("a", version=5)], [[line("ADDED", "b", 7)], []])
    events(server)

    assert [query["resourceVersion"] for query in server.queries[1:]] == ["5", "7", "7"]


def test_bookmark_moves_the_version_and_is_not_reported() -> None:
    server = WatchServer([listed("a", version=5)], [[line("BOOKMARK", metadata={"resourceVersion": "9"})]])

    assert events(server) == ["+a"]
    assert server.queries[-1]["resourceVersion"] == "9"


def test_expired_version_is_listed_again_and_deletions_reported() -> None:
    expired = line("ERROR", code=410)
    server = WatchServer([listed("a", "b"), listed("b", "c")], [[line("ADDED", "d", 2), expired]])

    reported = events(server)

    assert reported[:5] == ["+a", "+b", "+d", "+b", "+c"]
    assert sorted(reported[5:]) == ["-a", "-d"]


def test_error_in_the_stream_leads_to_a_new_list() -> None:
    server = WatchServer([listed("a"), listed("b")], [[line("ERROR", code=500)]])

    assert events(server) == ["+a", "+b", "-a"]


@pytest.mark.parametrize(
    ("error", "relists"),
    [
        pytest.param(aiohttp.ServerDisconnectedError(), False, id="connection lost: resume"),
        pytest.param(
            aiohttp.ClientResponseError(None, (), status=410),  # type: ignore[arg-type]
            True,
            id="version expired: list again",
        ),
        pytest.param(
            aiohttp.ClientResponseError(None, (), status=400),  # type: ignore[arg-type]
            True,
            id="version unknown: list again",
        ),
    ],
)
def test_broken_watch_resumes_or_lists_again(error: Exception, *, relists: bool) -> None:
    server = WatchServer([listed("a"), listed("a")], [[error]])

    assert events(server) == ["+a", "+a"] if relists else ["+a"]


def test_watch_that_stays_broken_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    refused = aiohttp.ClientResponseError(None, (), status=403)  # type: ignore[arg-type]
    events(WatchServer([listed("a")], [[refused], [refused], [aiohttp.ServerDisconnectedError()]]))

    assert caplog.messages == [f"the watch of {PATH} broke (HTTP 403); retrying"]


def test_failed_list_is_retried() -> None:
    server = WatchServer([UnavailableError("Unreachable", "no response"), listed("a")], [])

    assert events(server) == ["+a"]


def test_list_whose_pages_expired_is_restarted() -> None:
    server = WatchServer([listed("a", remaining="more"), None, listed("b")], [])

    assert events(server) == ["+a", "+b", "-a"]


def test_watch_that_ends_at_once_is_reopened_after_growing_pauses() -> None:
    server = WatchServer([listed("a")], [[]] * 7)
    events(server)

    assert server.times == [0, 1, 3, 7, 15, 31, 61, 91]


def test_list_that_expires_again_and_again_is_retried_after_pauses() -> None:
    server = WatchServer([None] * 1000 + [listed("a")], [])

    assert events(server) == ["+a"]
    assert server.times[0] > 4000


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b'{"type":"ADDED","obj', id="a truncated line"),
        pytest.param(b"<html>502</html>", id="HTML"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"type":"ADDED","object":{"metadata":null}}', id="metadata is null"),
        pytest.param(b'{"type":"ADDED","object":{"metadata":{}}}', id="metadata is empty"),
        pytest.param(line("ADDED", "b").replace(b'"1"', b'"x"'), id="the version is no number"),
        pytest.param(line("BOOKMARK", metadata={}), id="a bookmark without a version"),
        pytest.param(b'{"type":1,"object":{}}', id="a wrong type"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
    ],
)
def test_unexpected_line_leads_to_a_new_list(sent: bytes) -> None:
    metrics = Metrics()

    assert events(WatchServer([listed("a"), listed("c")], [[sent]]), metrics) == ["+a", "+c", "-a"]
    assert metrics.internal_errors.labels("secret_watch")._value.get() == 1


def test_event_that_is_nested_deeply_does_not_end_the_watch() -> None:
    # Since Python 3.14, only the size of the stack limits the depth.
    deep = b'{"type":"ADDED","object":' + b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_001
    server = WatchServer([listed("a"), listed("b", version=9)], [[deep, line("ADDED", "b", 2), aiohttp.ClientError()]])

    assert events(server) == ["+a", "+b", "+b", "-a"]
    # The next list shows whether the object was deleted.
    assert ["watch" in query for query in server.queries] == [False, True, False, True]


def test_event_that_is_too_large_leads_to_a_new_list() -> None:
    assert events(WatchServer([listed("a"), listed("a", "b")], [[UnreadableBodyError("large")]])) == ["+a", "+a", "+b"]


def test_page_that_is_too_large_is_requested_in_smaller_pages() -> None:
    too_large = UnreadableBodyError("large", b"")
    server = WatchServer([too_large, too_large, listed("a", remaining="more"), listed("b")], [])

    assert events(server) == ["+a", "+b"]
    assert [query["limit"] for query in server.queries[:4]] == ["500", "100", "20", "25"]


def test_object_that_is_too_large_alone_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    head = (
        b'{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7",'
        b'"continue":"next"},"items":[{"metadata":{"name":"huge","namespace":"mallory","uid":"u","annotations":{"a":"<'
    )
    server = WatchServer([UnreadableBodyError("large", head)] * 5 + [listed("b", version=7)], [])

    assert events(server) == ["+b"]
    assert server.queries[5]["continue"] == "next"
    assert caplog.messages == [f"mallory/huge of {PATH} is ignored: large"]


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(None, id="no metadata"),
        pytest.param(item("a")["metadata"] | {"labels": [1] * 100_000}, id="large metadata with unreadable labels"),
    ],
)
def test_item_that_is_no_secret_does_not_hide_the_others(metadata: object) -> None:
    page = Page((msgspec.Raw(msgspec.json.encode({"metadata": metadata})), *listed("b").items), "1", "")

    assert events(WatchServer([page], [])) == ["+b"]


def test_etcd_that_was_restored_is_listed_again_as_if_new() -> None:
    server = WatchServer([listed("a", version=90), listed("a", version=50)], [[]], current=[50])

    assert events(server) == ["+a", "-a", "+a"]
    assert server.queries[-1]["resourceVersion"] == "50"


def test_restore_that_only_a_lease_shows_is_listed_again() -> None:
    server = WatchServer([listed("a", version=90), listed("b", version=95)], [[line("ADDED", "c", 91)], []])

    reported = events(server, restored_at="c")

    assert (reported[:2], sorted(reported[2:4]), reported[4:]) == (["+a", "+c"], ["-a", "-c"], ["+b"])
    assert server.queries[-1]["resourceVersion"] == "95"


def test_event_with_a_lower_version_is_checked_before_it_is_believed() -> None:
    server = WatchServer([listed("a", version=90)], [[line("ADDED", "b", 60)], []], current=[95])

    assert events(server) == ["+a"]
    assert server.queries[-1]["resourceVersion"] == "90"


def test_bookmark_with_a_lower_version_is_ignored() -> None:
    behind = line("BOOKMARK", metadata={"resourceVersion": "5"})
    server = WatchServer([listed("a", version=9)], [[behind, line("ADDED", "b", 10)]])

    assert events(server) == ["+a", "+b"]
    assert server.queries[-1]["resourceVersion"] == "10"


def test_callback_error_for_one_object_does_not_stop_the_others() -> None:
    metrics = Metrics()

    assert events(WatchServer([listed("forged", "b")], []), metrics, broken="forged") == ["+b"]
    assert metrics.internal_errors.labels("secret_watch")._value.get() == 1


def test_only_data_keys_of_managed_fields_are_decoded() -> None:
    fields = {"f:data": {"f:token": {}, ".": {}}, "f:metadata": {"f:annotations": {"f:x": {"f:y": [1, {}]}}}}
    raw = item("a")["metadata"] | {"managedFields": [{"manager": "keyturn-1", "fieldsV1": fields}]}
    (owned,) = msgspec.convert(raw, SecretMeta).managed_fields

    assert owned.data_keys() == {"token"}
    assert not hasattr(owned.fields_v1, "metadata")


def test_large_metadata_are_cached_only_as_far_as_they_are_used() -> None:
    junk = {f"note-{number}": "x" * 1000 for number in range(100)}
    used = {"app.kubernetes.io/managed-by": "keyturn", "team": "billing"}
    meta = SecretMeta(
        "a",
        "billing",
        "uid-a",
        "1",
        labels=used | junk,
        annotations={"keyturn.dev/issuance": "{}", "keyturn.dev/adoptable-by": "x" * 2**16} | junk,
        owner_references=(Owner("request"), Owner("o" * 2**20)),
        managed_fields=tuple(ManagedFields(f"keyturn-{number}") for number in range(1000)),
    )
    bounded = meta.bounded({"team", "request"})

    assert (bounded.labels, bounded.annotations) == (used, {"keyturn.dev/issuance": "{}"})
    assert (bounded.owner_references, len(bounded.managed_fields)) == ((Owner("request"),), 16)
    assert bounded.is_partial


def test_large_metadata_are_decoded_only_as_far_as_they_are_used() -> None:
    used = {"app.kubernetes.io/managed-by": "keyturn"}
    raw = msgspec.Raw(
        msgspec.json.encode(
            {
                "metadata": item("a")["metadata"]
                | {"labels": {f"{number}": "" for number in range(100_000)} | used}
                | {"annotations": {"team": "billing", "keyturn.dev/issuance": "{}"}}
                | {"managedFields": [{"manager": "keyturn-1", "fieldsV1": {"f:data": {"f:token": {}}}}]}
            }
        )
    )
    tracemalloc.start()
    try:
        meta = read_item(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (meta.labels, meta.annotations) == (used, {"keyturn.dev/issuance": "{}"})
    assert ([it.manager for it in meta.managed_fields], meta.is_partial) == (["keyturn-1"], True)
    assert peak < 2 * len(raw)


def test_metadata_with_many_field_managers_are_read_at_once() -> None:
    """Anyone who may write a Secret can add 15,000 of them. Each compared with each other, they took 2 s."""
    managers = [{"manager": f"keyturn-{number}", "fieldsV1": {}} for number in range(20_000)]
    raw = msgspec.Raw(msgspec.json.encode({"metadata": item("a")["metadata"] | {"managedFields": managers}}))
    # A collection would scan all objects of the other tests.
    gc.disable()
    try:
        started = time.process_time()
        meta = read_item(raw)
        seconds = time.process_time() - started
    finally:
        gc.enable()

    assert meta.is_partial
    assert seconds < 1


async def test_other_work_continues_between_events_that_arrive_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_BREAK_AFTER_SECONDS", 0)
    changes: Round = [line("MODIFIED", "a", number) for number in range(2, 102)]
    server, order = WatchServer([listed("a", "b")], [changes]), list[str]()
    boundary = Boundary("secret_watch", f"the watch of {PATH}", Metrics())
    watch = SecretWatch(server, PATH, "a=b", lambda meta, _alive: order.append(meta.name), boundary)

    async def work() -> None:
        while not server.finished.is_set():
            order.append("work")
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch.run())
    async with asyncio.timeout(5):
        await work()
    watching.cancel()

    # The list has two objects.
    assert len(order) - order.count("work") == 2 + len(changes)
    assert all("work" in pair for pair in itertools.pairwise(order))


async def test_events_that_arrive_together_are_handled_together() -> None:
    changes: Round = [line("MODIFIED", "a", number) for number in range(2, 1002)]
    server, handled, iterations = WatchServer([listed("a")], [changes]), list[str](), 0
    boundary = Boundary("secret_watch", f"the watch of {PATH}", Metrics())
    watch = SecretWatch(server, PATH, "a=b", lambda meta, _alive: handled.append(meta.name), boundary)
    watching = asyncio.create_task(watch.run())
    async with asyncio.timeout(5):
        while len(handled) < len(changes):
            await asyncio.sleep(0)
            iterations += 1
    watching.cancel()

    assert iterations < len(changes) / 4


def test_ordinary_metadata_are_cached_whole() -> None:
    last_applied = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 2**18}
    meta = SecretMeta("a", "billing", "uid-a", "1", annotations={"note": "x" * 1000} | last_applied)

    assert meta.bounded() is meta


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"annotations": {"team": "x" * 20_000 + "\N{GRINNING FACE}"}}, id="four bytes for each character"),
        pytest.param({"labels": {f"{number}": "" for number in range(1000)}}, id="many labels"),
        pytest.param({"annotations": {f"{number}": "" for number in range(1000)}}, id="many annotations"),
        pytest.param({"owner_references": tuple(Owner(f"{number}") for number in range(1000))}, id="many owners"),
    ],
)
def test_cached_metadata_are_bounded_in_bytes_of_memory(fields: dict[str, Any]) -> None:
    bounded = SecretMeta("acme", "web", "uid", "1", **fields).bounded()

    assert (bounded.labels, bounded.annotations, bounded.owner_references) == ({}, {}, ())
