import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.issuance import ADOPTABLE_BY
from keyturn.core.pipeline_values import SourceValues
from tests.support.secret_store import DATA, REQUEST, SOURCE, TARGET, cluster, issued


async def test_written_target_is_read_from_the_cache() -> None:
    server, store = await issued()
    target = await store.read_target(REQUEST)

    assert target
    assert target.issuance
    assert (server.data(TARGET), target.owners, target.modified_by_others) == (DATA, frozenset({"acme-0001"}), False)
    assert server.requests == []


@pytest.mark.parametrize(
    ("secret", "reason", "message"),
    [
        pytest.param(None, "SourceNotFound", "Secret license does not exist", id="no Secret"),
        pytest.param({}, "SourceNotFound", "has no key license_token, or an empty one", id="no data"),
        pytest.param({"license_token": ""}, "SourceNotFound", "or an empty one", id="an empty key"),
        pytest.param({"license_token": "/w=="}, "SourceInvalid", "is not text", id="binary value"),
    ],
)
async def test_unreadable_source_is_refused(secret: dict[str, str] | None, reason: str, message: str) -> None:
    server, store = cluster()
    if secret is not None:
        server.put(SOURCE, data=secret)

    with pytest.raises(RefusedError, match=message) as refused:
        await store.read_source(REQUEST)

    assert refused.value.reason == reason


async def test_source_is_not_cached() -> None:
    server, store = cluster()
    server.put(SOURCE, data={"license_token": "Zmlyc3Q="})
    first = await store.read_source(REQUEST)
    server.put(SOURCE, data={"license_token": "c2Vjb25k"})

    assert (first, await store.read_source(REQUEST)) == (SourceValues("first"), SourceValues("second"))


async def test_secret_of_another_owner_is_reread_until_adoptable() -> None:
    server, store = cluster()
    server.put(TARGET, data={"theirs": "eA=="})
    with pytest.raises(RefusedError):
        await store.dry_run(REQUEST)
    server.put(TARGET, metadata={"annotations": {ADOPTABLE_BY: "acme"}})
    target = await store.read_target(REQUEST)

    assert target
    assert target.annotations[ADOPTABLE_BY] == "acme"
