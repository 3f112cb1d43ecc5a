from dataclasses import replace

import pytest

from keyturn.controller.api_client import ApiResponse
from keyturn.controller.token_secrets import TOKEN_OF, TokenSecrets
from keyturn.core.errors import LeaseLostError, RefusedError, UnavailableError
from keyturn.core.issuance import MANAGED_BY
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


async def test_token_secret_has_labels_and_no_owner() -> None:
    server, _, _ = await cluster()
    meta = server.meta(TOKEN)

    assert server.data(TOKEN) == {"license_token": "planted-token", "license_token.previous": "planted-before"}
    assert (meta.labels, meta.owner_references) == ({MANAGED_BY: "keyturn", TOKEN_OF: "license"}, ())
    assert "planted" not in repr(server.objects[TOKEN]["metadata"])


async def test_secret_of_another_owner_has_no_token_family() -> None:
    server = ApiServer()
    server.put(TOKEN, data={"license_token": "dGhlaXJz"})
    token = await TokenSecrets(server).read(REQUEST)

    assert token
    assert (token.value, token.family) == ("theirs", None)


async def test_dry_run_on_an_immutable_secret_is_refused() -> None:
    server, tokens, stored = await cluster()
    server.put(TOKEN, immutable=True)
    stored = replace(stored, version=server.meta(TOKEN).resource_version)

    with pytest.raises(RefusedError, match="immutable") as refused:
        await tokens.keep(REQUEST, stored, dry_run=True)

    assert refused.value.reason == "WriteDenied"


async def test_keep_and_save_are_one_request_each() -> None:
    server, tokens, stored = await cluster()
    kept = await tokens.keep(REQUEST, replace(stored, family=KNOWN))
    await tokens.save(REQUEST, replace(NEXT, uid=kept.uid, version=kept.version))

    assert server.requests == [f"PATCH {TOKEN}"] * 2


async def test_save_succeeds_after_changes_by_others() -> None:
    server, tokens, stored = await cluster()
    server.put(TOKEN, metadata={"labels": {"note": "x"}})
    await tokens.save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))

    assert server.data(TOKEN) == {"license_token": "planted-after", "license_token.previous": "planted-token"}
    assert server.meta(TOKEN).labels["note"] == "x"


@pytest.mark.parametrize("deleted", [False, True])
async def test_save_succeeds_after_the_lease_is_lost(*, deleted: bool) -> None:
    server, tokens, stored = await cluster()
    server.may_write = lambda _: False
    with pytest.raises(LeaseLostError):
        await tokens.keep(REQUEST, stored)
    if deleted:
        del server.objects[TOKEN]
    await tokens.save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))

    assert server.data(TOKEN)["license_token"] == "planted-after"
    assert server.meta(TOKEN).labels[MANAGED_BY] == "keyturn"


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
