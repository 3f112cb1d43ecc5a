from typing import Any

import pytest
from msgspec.structs import replace

from keyturn.controller.api_client import ApiResponse
from keyturn.controller.secret_store import SecretStore
from keyturn.core.issuance import ISSUANCE_ANNOTATION, MANAGED_BY, data_hash
from tests.support.api_server import ApiServer
from tests.unit.controller.test_secret_store import DATA, REQUEST, TARGET, cluster, issuance, issued


async def test_an_echo_that_comes_before_the_answer_is_no_news() -> None:
    server, store = cluster()
    cache: list[bool] = []

    class Early(ApiServer):
        async def request(self, *args: Any, **named: Any) -> ApiResponse:
            response = await server.request(*args, **named)
            cache.append(store.cache.observe(server.meta(TARGET), alive=True))
            return response

    store = SecretStore(Early())
    await store.write(REQUEST, issuance(), DATA)

    assert (cache, store.cache.is_stale(REQUEST)) == ([False], False)


async def test_a_version_that_is_older_than_our_write_is_no_news() -> None:
    server, store = await issued()
    old = server.meta(TARGET)
    await store.write(REQUEST, issuance(revision=2), DATA)

    assert store.cache.observe(old, alive=True) is False
    assert store.cache.get(("billing", "acme")).issuance == (await store.read_target(REQUEST)).issuance  # type: ignore[union-attr]


async def test_an_edit_by_hand_is_news_and_is_read_once() -> None:
    server, store = await issued()
    news = store.cache.observe(server.put(TARGET, data={"token": "ZWRpdGVk"}), alive=True)
    first = await store.read_target(REQUEST)
    await store.read_target(REQUEST)

    assert (news, server.asked) == (True, [f"GET {TARGET}"])
    assert first
    assert first.data_hash == data_hash({**DATA, "token": "edited"}, REQUEST)


async def test_an_edit_that_leaves_no_trace_in_the_metadata_is_read_too() -> None:
    server, store = await issued()
    store.cache.observe(server.put(TARGET, immutable=True), alive=True)
    found = await store.read_target(REQUEST)

    assert found
    assert found.immutable


@pytest.mark.parametrize(
    ("edit", "doubted"),
    [
        pytest.param({}, False, id="nobody touched it"),
        pytest.param({"data": {"token": "ZWRpdGVk"}}, True, id="a key of ours is another's"),
        pytest.param({"data": {"token": None}}, True, id="a key of ours is gone"),
        pytest.param({"data": {"theirs": "eA=="}}, False, id="a key of theirs"),
        pytest.param({"metadata": {"annotations": {ISSUANCE_ANNOTATION: "{}"}}}, True, id="the marks were edited"),
    ],
)
async def test_after_a_start_only_what_was_touched_is_doubted(edit: dict[str, Any], *, doubted: bool) -> None:
    server, _ = await issued()
    server.put(TARGET, **edit)
    fresh = SecretStore(server)

    assert fresh.cache.observe(server.meta(TARGET), alive=True) is True
    assert fresh.cache.is_stale(REQUEST) is doubted


async def test_a_secret_that_is_gone_is_read_before_that_is_believed() -> None:
    server, store = await issued()
    meta = server.meta(TARGET)
    del server.objects[TARGET]

    assert store.cache.observe(meta, alive=False) is True
    assert await store.read_target(REQUEST) is None
    assert (await store.read_target(REQUEST), server.asked) == (None, [f"GET {TARGET}"])


async def test_a_secret_that_lost_its_label_only_is_still_found() -> None:
    server, store = await issued()
    meta = server.put(TARGET, metadata={"labels": {MANAGED_BY: None}})
    store.cache.observe(meta, alive=False)
    found = await store.read_target(REQUEST)

    assert found
    assert found.issuance


@pytest.mark.parametrize("ends", [True, False])
async def test_what_the_watch_shows_during_a_read_leaves_a_doubt(*, ends: bool) -> None:
    server, store = await issued()
    store.cache.observe(server.put(TARGET, data={"token": "ZWRpdGVk"}), alive=True)

    class Late(ApiServer):
        async def request(self, *args: Any, **named: Any) -> ApiResponse:
            response = await server.request(*args, **named)
            meta = server.put(TARGET, data={"token": "YWdhaW4="})
            store.cache.observe(meta, alive=not ends)
            return response

    store._api = Late()
    await store.read_target(REQUEST)

    assert store.cache.is_stale(REQUEST)


def test_secrets_that_came_and_went_are_forgotten() -> None:
    server, store = cluster()
    meta = server.put(TARGET)
    for number in range(10_010):
        store.cache.observe(replace(meta, name=str(number)), alive=False)

    assert (len(store.cache._deleted), len(store.cache._stale)) == (10_000, 10_000)


async def test_a_secret_that_nobody_knows_may_vanish() -> None:
    server, store = cluster()

    assert store.cache.observe(server.put(TARGET), alive=False) is False
