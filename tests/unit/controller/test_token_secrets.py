from dataclasses import replace

import pytest

from keyturn.controller.api_client import ApiResponse
from keyturn.controller.token_secrets import TOKEN_OF, TokenSecrets
from keyturn.core.errors import LeaseLostError, RefusedError, UnavailableError
from keyturn.core.issuance import MANAGED_BY, OWNER_UID
from keyturn.core.token_family import Intent, StoredToken, TokenFamily
from tests.support.api_server import ApiServer
from tests.support.dependencies import NOW, rotating
from tests.support.secret_store import SECRETS

TOKEN = f"{SECRETS}/license-keyturn"
REQUEST = rotating()
KNOWN = TokenFamily(source_id="license/license_token", initial_tokens=("1",), live="2", consumed=("1",))
INTENT = Intent(holder="pod-1", consumes="2", start=NOW, give_up_seconds=30)
STORED = StoredToken("planted-token", KNOWN.with_intent(INTENT), previous="planted-before")
NEXT = replace(STORED, value="planted-after", previous="planted-token", family=KNOWN.rotated("3"))


async def cluster() -> tuple[ApiServer, TokenSecrets, StoredToken]:
    """Return an API server with a token Secret that was just created."""
    server = ApiServer()
    tokens = TokenSecrets(server)
    stored = await tokens.create(REQUEST, STORED)
    server.requests.clear()
    return server, tokens, stored


async def test_created_token_is_read_back() -> None:
    server, tokens, stored = await cluster()

    assert await tokens.read(REQUEST) == stored
    assert stored == replace(STORED, uid=server.meta(TOKEN).uid, version=server.meta(TOKEN).resource_version)
    assert server.data(TOKEN) == {"license_token": "planted-token", "license_token.previous": "planted-before"}


async def test_token_secret_has_no_owner() -> None:
    server, _, _ = await cluster()
    meta = server.meta(TOKEN)

    assert meta.owner_references == ()
    assert (meta.labels, OWNER_UID in meta.labels) == ({MANAGED_BY: "keyturn", TOKEN_OF: "license"}, False)


async def test_metadata_contain_no_token() -> None:
    server, _, _ = await cluster()

    assert "planted" not in repr(server.objects[TOKEN]["metadata"])


async def test_missing_token_secret_is_none() -> None:
    assert await TokenSecrets(ApiServer()).read(REQUEST) is None


async def test_secret_of_another_owner_has_no_token_family() -> None:
    server = ApiServer()
    server.put(TOKEN, data={"license_token": "dGhlaXJz"})
    token = await TokenSecrets(server).read(REQUEST)

    assert token
    assert (token.value, token.family) == ("theirs", None)


async def test_create_fails_if_the_secret_exists() -> None:
    _, tokens, _ = await cluster()

    with pytest.raises(UnavailableError, match="was changed in the meantime"):
        await tokens.create(REQUEST, STORED)


async def test_dry_run_writes_nothing() -> None:
    server, tokens, stored = await cluster()
    before = server.objects[TOKEN]
    await tokens.keep(REQUEST, stored, dry_run=True)

    assert server.objects[TOKEN] == before


async def test_dry_run_on_an_immutable_secret_is_refused() -> None:
    server, tokens, stored = await cluster()
    server.put(TOKEN, immutable=True)
    stored = replace(stored, version=server.meta(TOKEN).resource_version)

    with pytest.raises(RefusedError, match="immutable") as refused:
        await tokens.keep(REQUEST, stored, dry_run=True)

    assert refused.value.reason == "WriteDenied"


@pytest.mark.parametrize("dry_run", [True, False])
async def test_keep_does_not_overwrite_a_changed_secret(*, dry_run: bool) -> None:
    server, tokens, stored = await cluster()
    server.put(TOKEN, metadata={"labels": {"note": "x"}})

    with pytest.raises(UnavailableError, match="was changed in the meantime"):
        await tokens.keep(REQUEST, stored, dry_run=dry_run)
    assert server.data(TOKEN)["license_token"] == "planted-token"


async def test_keep_does_not_recreate_a_deleted_secret() -> None:
    server, tokens, stored = await cluster()
    del server.objects[TOKEN]

    with pytest.raises(UnavailableError):
        await tokens.keep(REQUEST, stored)
    assert TOKEN not in server.objects


async def test_keep_is_one_request() -> None:
    server, tokens, stored = await cluster()
    written = await tokens.keep(REQUEST, replace(stored, family=KNOWN))

    assert (written.family, written.version > stored.version) == (KNOWN, True)
    assert server.requests == [f"PATCH {TOKEN}"]


async def test_save_succeeds_after_changes_by_others() -> None:
    server, tokens, stored = await cluster()
    server.put(TOKEN, metadata={"labels": {"note": "x"}})
    await tokens.save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))

    assert server.data(TOKEN) == {"license_token": "planted-after", "license_token.previous": "planted-token"}
    assert server.meta(TOKEN).labels["note"] == "x"


async def test_save_is_one_request() -> None:
    server, tokens, stored = await cluster()
    await tokens.save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))

    assert server.requests == [f"PATCH {TOKEN}"]


@pytest.mark.parametrize(
    ("family", "wins"),
    [
        pytest.param(KNOWN, True, id="the token that was consumed"),
        pytest.param(KNOWN.rotated("3"), True, id="the same token, as after a lost response"),
        pytest.param(TokenFamily(source_id=KNOWN.source_id, initial_tokens=("1",), live="1"), True, id="an old copy"),
        pytest.param(KNOWN.with_initial_token("9"), False, id="the user has signed in again"),
        pytest.param(KNOWN.rotated("4"), False, id="a token that another process received"),
    ],
)
async def test_late_save_is_kept_unless_superseded(family: TokenFamily, *, wins: bool) -> None:
    server, tokens, stored = await cluster()
    await tokens.keep(REQUEST, replace(stored, value="stored", family=family))
    saved = await tokens.save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))

    assert saved.value == ("planted-after" if wins else "stored")
    assert server.data(TOKEN)["license_token"] == saved.value


async def test_save_succeeds_after_the_lease_is_lost() -> None:
    server, tokens, stored = await cluster()
    server.may_write = lambda: False
    with pytest.raises(LeaseLostError):
        await tokens.keep(REQUEST, stored)
    await tokens.save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))

    assert server.data(TOKEN)["license_token"] == "planted-after"


@pytest.mark.parametrize("lost", [True, False])
async def test_save_recreates_a_deleted_secret(*, lost: bool) -> None:
    server, tokens, stored = await cluster()
    del server.objects[TOKEN]
    if lost:
        server.may_write = lambda: False
    saved = await tokens.save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))

    assert saved.uid != stored.uid
    assert (saved.value, saved.family) == ("planted-after", NEXT.family)
    assert server.meta(TOKEN).labels[MANAGED_BY] == "keyturn"


async def test_save_into_a_recreated_token_secret_succeeds() -> None:
    server, tokens, stored = await cluster()
    del server.objects[TOKEN]
    await tokens.create(REQUEST, replace(STORED, value="put back"))
    saved = await tokens.save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))

    assert saved.uid != stored.uid
    assert server.data(TOKEN)["license_token"] == "planted-after"


async def test_save_does_not_overwrite_a_secret_of_another_owner() -> None:
    server, tokens, stored = await cluster()
    del server.objects[TOKEN]
    server.put(TOKEN, data={"license_token": "dGhlaXJz"})

    with pytest.raises(UnavailableError, match="is no longer a token Secret of Keyturn; delete it"):
        await tokens.save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))
    assert server.data(TOKEN) == {"license_token": "theirs"}


async def test_refusal_contains_no_token() -> None:
    server, tokens, stored = await cluster()
    server.responses[f"PATCH {TOKEN}"] = ApiResponse(403, {"message": "planted-after and planted-token are not"})

    with pytest.raises(RefusedError) as refused:
        await tokens.save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))

    assert refused.value.reason == "WriteDenied"
    assert "planted" not in refused.value.message


async def test_token_is_stored_in_the_secret_of_save_to() -> None:
    ref = {"name": "license", "key": "license_token"}
    moved = rotating(source={"token": {"secretKeyRef": ref, "saveTo": {"secretName": "live"}}})
    server = ApiServer()
    await TokenSecrets(server).create(moved, STORED)

    assert [*server.objects] == [f"{SECRETS}/live"]
