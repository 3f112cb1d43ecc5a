import tracemalloc
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from keyturn.controller.api_client import ApiResponse
from keyturn.controller.secret_store import SecretStore
from keyturn.controller.secret_watch import SecretMeta
from keyturn.core.issuance import MANAGED_BY, data_hash
from keyturn.core.pipeline_values import SourceValues
from tests.support.api_server import ApiServer
from tests.support.issuance_keys import KEYS
from tests.support.secret_store import DATA, REQUEST, SOURCE, TARGET, cluster, issuance, issued


async def test_written_target_is_read_from_the_cache() -> None:
    server, store = await issued()
    target = await store.read_target(REQUEST)

    assert target
    assert target.issuance
    assert (server.data(TARGET), target.owners, target.modified_by_others) == (DATA, frozenset({"acme-0001"}), False)
    assert server.requests == []


async def test_source_is_not_cached() -> None:
    server, store = cluster()
    server.put(SOURCE, data={"license_token": "Zmlyc3Q="})
    first = await store.read_source(REQUEST)
    server.put(SOURCE, data={"license_token": "c2Vjb25k"})

    assert (first, await store.read_source(REQUEST)) == (SourceValues("first"), SourceValues("second"))


async def test_watch_event_before_the_response_of_own_write_is_ignored() -> None:
    server, store = cluster()
    changes: list[bool] = []

    class EarlyEvent(ApiServer):
        async def request(self, *args: Any, **kwargs: Any) -> ApiResponse:
            response = await server.request(*args, **kwargs)
            changes.append(store.cache.observe(server.meta(TARGET), alive=True))
            return response

    store = SecretStore(EarlyEvent(), KEYS)
    await store.write(REQUEST, issuance(), DATA)

    assert (changes, store.cache.is_stale(REQUEST)) == ([False], False)


async def test_version_older_than_own_write_is_ignored() -> None:
    server, store = await issued()
    old = server.meta(TARGET)
    await store.write(REQUEST, issuance(revision=2), DATA)

    assert store.cache.observe(old, alive=True) is False
    assert store.cache.get(("billing", "acme")).issuance == (await store.read_target(REQUEST)).issuance  # type: ignore[union-attr]


async def test_manual_edit_is_reported_and_read_once() -> None:
    server, store = await issued()
    changed = store.cache.observe(server.put(TARGET, data={"token": "ZWRpdGVk"}), alive=True)
    first = await store.read_target(REQUEST)
    await store.read_target(REQUEST)

    assert (changed, server.requests) == (True, [f"GET {TARGET}"])
    assert first
    assert first.data_hash == data_hash({**DATA, "token": "edited"}, REQUEST)


async def test_edit_that_metadata_do_not_show_is_read_too() -> None:
    server, store = await issued()
    store.cache.observe(server.put(TARGET, immutable=True), alive=True)
    target = await store.read_target(REQUEST)

    assert target
    assert target.immutable


async def test_deleted_secret_is_read_before_it_counts_as_deleted() -> None:
    server, store = await issued()
    meta = server.meta(TARGET)
    del server.objects[TARGET]

    assert store.cache.observe(meta, alive=False) is True
    assert await store.read_target(REQUEST) is None
    assert (await store.read_target(REQUEST), server.requests) == (None, [f"GET {TARGET}"])


async def test_secret_that_only_lost_its_label_is_still_read() -> None:
    server, store = await issued()
    meta = server.put(TARGET, metadata={"labels": {MANAGED_BY: None}})
    store.cache.observe(meta, alive=False)
    target = await store.read_target(REQUEST)

    assert target
    assert target.issuance


@pytest.mark.parametrize("deleted", [True, False])
async def test_watch_event_during_a_read_leaves_the_entry_stale(*, deleted: bool) -> None:
    server, store = await issued()
    store.cache.observe(server.put(TARGET, data={"token": "ZWRpdGVk"}), alive=True)

    class ConcurrentEdit(ApiServer):
        async def request(self, *args: Any, **kwargs: Any) -> ApiResponse:
            response = await server.request(*args, **kwargs)
            meta = server.put(TARGET, data={"token": "YWdhaW4="})
            store.cache.observe(meta, alive=not deleted)
            return response

    store._api = ConcurrentEdit()
    await store.read_target(REQUEST)

    assert store.cache.is_stale(REQUEST)


def test_cache_limits_the_number_of_deleted_secrets() -> None:
    server, store = cluster()
    meta = server.put(TARGET)
    for number in range(10_010):
        store.cache.observe(replace(meta, name=str(number)), alive=False)

    assert (len(store.cache._deleted), len(store.cache._stale)) == (10_000, 10_000)


async def test_deletion_of_an_unknown_secret_is_ignored() -> None:
    server, store = cluster()

    assert store.cache.observe(server.put(TARGET), alive=False) is False


async def test_events_during_a_write_take_the_memory_of_a_few() -> None:
    server, store = await issued()
    meta = server.meta(TARGET)
    keys: dict[str, Any] = {"f:data": {f"f:{number}": {} for number in range(10_000)}}
    encoded = msgspec.json.encode(replace(meta, managed_fields=()))[:-1].replace(b',"managedFields":[]', b"")
    managers = msgspec.json.encode([{"manager": "kubectl", "fieldsV1": keys}])
    tracemalloc.start()
    try:
        with store.cache.writing(("billing", "acme")):
            for _ in range(30):
                large = msgspec.json.decode(encoded + b',"managedFields":' + managers + b"}", type=SecretMeta)
                store.cache.observe(large, alive=True)
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # Each takes more than a megabyte.
    assert peak < 5 * 2**20
