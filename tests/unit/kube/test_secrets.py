import time
from collections.abc import Callable
from typing import Any

import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.holding import Source
from keyturn.core.marks import ADOPT_BY, MANAGED_BY, MARKS, Marks, data_hash
from keyturn.core.model import Request
from keyturn.kube.api import ApiAnswer
from keyturn.kube.secrets import SecretStore
from tests.unit.core.test_marks import MADE
from tests.unit.kube.api_server import ApiServer
from tests.world import request

SECRETS = "/api/v1/namespaces/billing/secrets"
TARGET, SOURCE = f"{SECRETS}/acme", f"{SECRETS}/license"
TOKEN_REQUEST = "/apis/keyturn.dev/v1alpha1/namespaces/billing/tokenrequests/acme"
REQUEST = request()
DATA = {"token": "planted-token", "expiration": "2026-01-02T04:04:05Z"}


def marks(wanted: Request = REQUEST, **changes: Any) -> Marks:
    made = {name: getattr(MADE, name) for name in MADE.__struct_fields__}
    hashes = {name: getattr(wanted, name) for name in ("request_hash", "exchange_hash", "dress_hash")}
    return Marks(**made | hashes | {"uid": wanted.uid, "data_hash": data_hash(DATA, wanted)} | changes)


def cluster(monotonic: Callable[[], float] = time.monotonic) -> tuple[ApiServer, SecretStore]:
    server = ApiServer()
    server.put("/apis/keyturn.dev/v1alpha1/namespaces/billing/tokenrequests/acme")
    server.objects["/apis/keyturn.dev/v1alpha1/namespaces/billing/tokenrequests/acme"]["metadata"]["uid"] = (
        REQUEST.uid
    )
    return server, SecretStore(server, monotonic)


async def issued(wanted: Request = REQUEST) -> tuple[ApiServer, SecretStore]:
    server, store = cluster()
    await store.write(wanted, marks(wanted), DATA)
    server.asked.clear()
    return server, store


async def test_what_is_written_is_found_again() -> None:
    server, store = await issued()
    found = await store.read_target(REQUEST)

    assert found
    assert found.marks
    assert (server.data(TARGET), found.owners, found.touched) == (DATA, frozenset({"acme-0001"}), False)
    assert server.asked == []


async def test_the_echo_of_our_own_write_is_no_news() -> None:
    server, store = await issued()

    assert store.observe(server.meta(TARGET), alive=True) is False


async def test_an_echo_that_comes_before_the_answer_is_no_news() -> None:
    server, store = cluster()
    seen: list[bool] = []

    class Early(ApiServer):
        async def ask(self, *args: Any, **named: Any) -> ApiAnswer:
            answer = await server.ask(*args, **named)
            seen.append(store.observe(server.meta(TARGET), alive=True))
            return answer

    store = SecretStore(Early())
    await store.write(REQUEST, marks(), DATA)

    assert (seen, store.is_doubted(REQUEST)) == ([False], False)


async def test_a_version_that_is_older_than_our_write_is_no_news() -> None:
    server, store = await issued()
    old = server.meta(TARGET)
    await store.write(REQUEST, marks(revision=2), DATA)

    assert store.observe(old, alive=True) is False
    assert store.seen["billing", "acme"].marks == (await store.read_target(REQUEST)).marks  # type: ignore[union-attr]


async def test_an_edit_by_hand_is_news_and_is_read_once() -> None:
    server, store = await issued()
    news = store.observe(server.put(TARGET, data={"token": "ZWRpdGVk"}), alive=True)
    first = await store.read_target(REQUEST)
    await store.read_target(REQUEST)

    assert (news, server.asked) == (True, [f"GET {TARGET}"])
    assert first
    assert first.data_hash == data_hash({**DATA, "token": "edited"}, REQUEST)


async def test_an_edit_that_leaves_no_trace_in_the_metadata_is_read_too() -> None:
    server, store = await issued()
    store.observe(server.put(TARGET, immutable=True), alive=True)
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
        pytest.param({"metadata": {"annotations": {MARKS: "{}"}}}, True, id="the marks were edited"),
    ],
)
async def test_after_a_start_only_what_was_touched_is_doubted(edit: dict[str, Any], *, doubted: bool) -> None:
    server, _ = await issued()
    server.put(TARGET, **edit)
    fresh = SecretStore(server)

    assert fresh.observe(server.meta(TARGET), alive=True) is True
    assert fresh.is_doubted(REQUEST) is doubted


async def test_a_secret_that_is_gone_is_read_before_that_is_believed() -> None:
    server, store = await issued()
    meta = server.meta(TARGET)
    del server.objects[TARGET]

    assert store.observe(meta, alive=False) is True
    assert await store.read_target(REQUEST) is None
    assert (await store.read_target(REQUEST), server.asked) == (None, [f"GET {TARGET}"])


async def test_a_secret_that_lost_its_label_only_is_still_found() -> None:
    server, store = await issued()
    meta = server.put(TARGET, metadata={"labels": {MANAGED_BY: None}})
    store.observe(meta, alive=False)
    found = await store.read_target(REQUEST)

    assert found
    assert found.marks


async def test_a_secret_that_nobody_knows_may_vanish() -> None:
    server, store = cluster()

    assert store.observe(server.put(TARGET), alive=False) is False


@pytest.mark.parametrize(
    ("secret", "reason", "says"),
    [
        pytest.param(None, "SourceMissing", "Secret license does not exist", id="no Secret"),
        pytest.param({}, "SourceMissing", "has no key license_token, or an empty one", id="no data"),
        pytest.param({"license_token": ""}, "SourceMissing", "or an empty one", id="an empty key"),
        pytest.param({"license_token": "/w=="}, "SourceInvalid", "is not text", id="bytes"),
    ],
)
async def test_a_source_that_cannot_be_read(secret: dict[str, str] | None, reason: str, says: str) -> None:
    server, store = cluster()
    if secret is not None:
        server.put(SOURCE, data=secret)

    with pytest.raises(RefusedError, match=says) as refused:
        await store.read_source(REQUEST)

    assert refused.value.reason == reason


async def test_the_source_is_read_each_time() -> None:
    server, store = cluster()
    server.put(SOURCE, data={"license_token": "Zmlyc3Q="})
    first = await store.read_source(REQUEST)
    server.put(SOURCE, data={"license_token": "c2Vjb25k"})

    assert (first, await store.read_source(REQUEST)) == (Source("first"), Source("second"))


async def test_a_rehearsal_writes_nothing() -> None:
    server, store = cluster()
    await store.rehearse(REQUEST)

    assert TARGET not in server.objects


async def test_a_rehearsal_refuses_a_foreign_secret() -> None:
    server, store = cluster()
    server.put(TARGET, data={"theirs": "eA=="})

    with pytest.raises(RefusedError, match="was not made by Keyturn") as refused:
        await store.rehearse(REQUEST)

    assert refused.value.reason == "TargetConflict"


async def test_a_foreign_secret_is_read_again_until_it_consents() -> None:
    server, store = cluster()
    server.put(TARGET, data={"theirs": "eA=="})
    with pytest.raises(RefusedError):
        await store.rehearse(REQUEST)
    server.put(TARGET, metadata={"annotations": {ADOPT_BY: "acme"}})
    found = await store.read_target(REQUEST)

    assert found
    assert found.annotations[ADOPT_BY] == "acme"
