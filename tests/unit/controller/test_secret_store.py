import time
from collections.abc import Callable
from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.controller.secret_store import SecretStore
from keyturn.core.errors import RefusedError
from keyturn.core.issuance import ADOPTABLE_BY, Issuance, data_hash
from keyturn.core.pipeline_values import SourceValues
from tests.support.api_server import ApiServer
from tests.support.dependencies import request
from tests.unit.core.test_issuance import MADE

SECRETS = "/api/v1/namespaces/billing/secrets"
TARGET, SOURCE = f"{SECRETS}/acme", f"{SECRETS}/license"
TOKEN_REQUEST = "/apis/keyturn.dev/v1alpha1/namespaces/billing/tokenrequests/acme"
REQUEST = request()
DATA = {"token": "planted-token", "expiration": "2026-01-02T04:04:05Z"}


def issuance(wanted: Request = REQUEST, **changes: Any) -> Issuance:
    made = {name: getattr(MADE, name) for name in MADE.__struct_fields__}
    hashes = {name: getattr(wanted, name) for name in ("request_hash", "exchange_hash", "metadata_hash")}
    return Issuance(**made | hashes | {"uid": wanted.uid, "data_hash": data_hash(DATA, wanted)} | changes)


def cluster(monotonic: Callable[[], float] = time.monotonic) -> tuple[ApiServer, SecretStore]:
    server = ApiServer()
    server.put("/apis/keyturn.dev/v1alpha1/namespaces/billing/tokenrequests/acme")
    server.objects["/apis/keyturn.dev/v1alpha1/namespaces/billing/tokenrequests/acme"]["metadata"]["uid"] = REQUEST.uid
    return server, SecretStore(server, monotonic)


async def issued(wanted: Request = REQUEST) -> tuple[ApiServer, SecretStore]:
    server, store = cluster()
    await store.write(wanted, issuance(wanted), DATA)
    server.asked.clear()
    return server, store


async def test_what_is_written_is_found_again() -> None:
    server, store = await issued()
    found = await store.read_target(REQUEST)

    assert found
    assert found.issuance
    assert (server.data(TARGET), found.owners, found.modified_by_others) == (DATA, frozenset({"acme-0001"}), False)
    assert server.asked == []


async def test_the_echo_of_our_own_write_is_no_news() -> None:
    server, store = await issued()

    assert store.cache.observe(server.meta(TARGET), alive=True) is False


@pytest.mark.parametrize(
    ("secret", "reason", "says"),
    [
        pytest.param(None, "SourceNotFound", "Secret license does not exist", id="no Secret"),
        pytest.param({}, "SourceNotFound", "has no key license_token, or an empty one", id="no data"),
        pytest.param({"license_token": ""}, "SourceNotFound", "or an empty one", id="an empty key"),
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

    assert (first, await store.read_source(REQUEST)) == (SourceValues("first"), SourceValues("second"))


async def test_a_rehearsal_writes_nothing() -> None:
    server, store = cluster()
    await store.dry_run(REQUEST)

    assert TARGET not in server.objects


async def test_a_rehearsal_refuses_a_foreign_secret() -> None:
    server, store = cluster()
    server.put(TARGET, data={"theirs": "eA=="})

    with pytest.raises(RefusedError, match="was not created by Keyturn") as refused:
        await store.dry_run(REQUEST)

    assert refused.value.reason == "TargetConflict"


async def test_a_foreign_secret_is_read_again_until_it_consents() -> None:
    server, store = cluster()
    server.put(TARGET, data={"theirs": "eA=="})
    with pytest.raises(RefusedError):
        await store.dry_run(REQUEST)
    server.put(TARGET, metadata={"annotations": {ADOPTABLE_BY: "acme"}})
    found = await store.read_target(REQUEST)

    assert found
    assert found.annotations[ADOPTABLE_BY] == "acme"
