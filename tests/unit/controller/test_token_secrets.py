from dataclasses import replace

import pytest

from keyturn.controller.api_client import ApiResponse
from keyturn.controller.token_secrets import TOKEN_OF, TokenSecrets
from keyturn.core.errors import LeaseLostError, RefusedError, UnavailableError
from keyturn.core.issuance import MANAGED_BY, OWNER_UID
from keyturn.core.token_family import Intent, StoredToken, TokenFamily
from tests.support.api_server import ApiServer
from tests.support.dependencies import NOW, rotating
from tests.unit.controller.test_secret_store import SECRETS

TOKEN = f"{SECRETS}/license-keyturn"
REQUEST = rotating()
KNOWN = TokenFamily(source_id="license/license_token", initial_tokens=("1",), live="2", consumed=("1",))
INTENT = Intent(holder="pod-1", consumes="2", start=NOW, give_up_seconds=30)
KEPT = StoredToken("planted-token", KNOWN.intended(INTENT), previous="planted-before")
NEXT = replace(KEPT, value="planted-after", previous="planted-token", family=KNOWN.rotated("3"))


async def kept() -> tuple[ApiServer, TokenSecrets, StoredToken]:
    """A cluster with a token Secret, as it was made."""
    server = ApiServer()
    tokens = TokenSecrets(server)
    made = await tokens.create(REQUEST, KEPT)
    server.asked.clear()
    return server, tokens, made


async def test_what_is_made_is_found_again() -> None:
    server, tokens, made = await kept()

    assert await tokens.read(REQUEST) == made
    assert made == replace(KEPT, uid=server.meta(TOKEN).uid, version=server.meta(TOKEN).resource_version)
    assert server.data(TOKEN) == {"license_token": "planted-token", "license_token.previous": "planted-before"}


async def test_it_outlives_every_request() -> None:
    server, _, _ = await kept()
    meta = server.meta(TOKEN)

    assert meta.owner_references == ()
    assert (meta.labels, OWNER_UID in meta.labels) == ({MANAGED_BY: "keyturn", TOKEN_OF: "license"}, False)


async def test_no_token_is_in_its_metadata() -> None:
    server, _, _ = await kept()

    assert "planted" not in repr(server.objects[TOKEN]["metadata"])


async def test_where_there_is_none_none_is_found() -> None:
    assert await TokenSecrets(ApiServer()).read(REQUEST) is None


async def test_a_secret_of_somebody_else_has_no_lineage() -> None:
    server = ApiServer()
    server.put(TOKEN, data={"license_token": "dGhlaXJz"})
    found = await TokenSecrets(server).read(REQUEST)

    assert found
    assert (found.value, found.family) == ("theirs", None)


async def test_what_was_made_meanwhile_is_not_made_again() -> None:
    _, tokens, _ = await kept()

    with pytest.raises(UnavailableError, match="changed by somebody else meanwhile"):
        await tokens.create(REQUEST, KEPT)


async def test_a_rehearsal_writes_nothing() -> None:
    server, tokens, made = await kept()
    before = server.objects[TOKEN]
    await tokens.keep(REQUEST, made, dry_run=True)

    assert server.objects[TOKEN] == before


async def test_a_rehearsal_of_an_immutable_secret_is_refused() -> None:
    server, tokens, made = await kept()
    server.put(TOKEN, immutable=True)
    made = replace(made, version=server.meta(TOKEN).resource_version)

    with pytest.raises(RefusedError, match="immutable") as refused:
        await tokens.keep(REQUEST, made, dry_run=True)

    assert refused.value.reason == "WriteDenied"


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_guarded_write_does_not_write_over_another(*, dry_run: bool) -> None:
    server, tokens, made = await kept()
    server.put(TOKEN, metadata={"labels": {"note": "x"}})

    with pytest.raises(UnavailableError, match="changed by somebody else meanwhile"):
        await tokens.keep(REQUEST, made, dry_run=dry_run)
    assert server.data(TOKEN)["license_token"] == "planted-token"


async def test_a_guarded_write_of_what_is_gone() -> None:
    server, tokens, made = await kept()
    del server.objects[TOKEN]

    with pytest.raises(UnavailableError):
        await tokens.keep(REQUEST, made)
    assert TOKEN not in server.objects


async def test_a_guarded_write_is_one_request() -> None:
    server, tokens, made = await kept()
    written = await tokens.keep(REQUEST, replace(made, family=KNOWN))

    assert (written.family, written.version > made.version) == (KNOWN, True)
    assert server.asked == [f"PATCH {TOKEN}"]


async def test_a_save_does_not_mind_what_others_changed() -> None:
    server, tokens, made = await kept()
    server.put(TOKEN, metadata={"labels": {"note": "x"}})
    await tokens.save(REQUEST, replace(NEXT, uid=made.uid, version=made.version))

    assert server.data(TOKEN) == {"license_token": "planted-after", "license_token.previous": "planted-token"}
    assert server.meta(TOKEN).labels["note"] == "x"


async def test_a_save_is_one_request() -> None:
    server, tokens, made = await kept()
    await tokens.save(REQUEST, replace(NEXT, uid=made.uid, version=made.version))

    assert server.asked == [f"PATCH {TOKEN}"]


@pytest.mark.parametrize(
    ("stored", "wins"),
    [
        pytest.param(KNOWN, True, id="what we spent"),
        pytest.param(KNOWN.rotated("3"), True, id="the same token, as after a lost answer"),
        pytest.param(TokenFamily(source_id=KNOWN.source_id, initial_tokens=("1",), live="1"), True, id="an old copy"),
        pytest.param(KNOWN.with_initial_token("9"), False, id="the user has signed in again"),
        pytest.param(KNOWN.rotated("4"), False, id="another's token for the same one"),
    ],
)
async def test_a_late_save_counts_unless_it_is_overtaken(stored: TokenFamily, *, wins: bool) -> None:
    server, tokens, made = await kept()
    await tokens.keep(REQUEST, replace(made, value="stored", family=stored))
    found = await tokens.save(REQUEST, replace(NEXT, uid=made.uid, version=made.version))

    assert found.value == ("planted-after" if wins else "stored")
    assert server.data(TOKEN)["license_token"] == found.value


async def test_a_save_is_made_though_the_lease_is_lost() -> None:
    server, tokens, made = await kept()
    server.may_write = lambda: False
    with pytest.raises(LeaseLostError):
        await tokens.keep(REQUEST, made)
    await tokens.save(REQUEST, replace(NEXT, uid=made.uid, version=made.version))

    assert server.data(TOKEN)["license_token"] == "planted-after"


@pytest.mark.parametrize("lost", [True, False])
async def test_a_save_after_a_deletion_makes_it_anew(*, lost: bool) -> None:
    server, tokens, made = await kept()
    del server.objects[TOKEN]
    if lost:
        server.may_write = lambda: False
    saved = await tokens.save(REQUEST, replace(NEXT, uid=made.uid, version=made.version))

    assert saved.uid != made.uid
    assert (saved.value, saved.family) == ("planted-after", NEXT.family)
    assert server.meta(TOKEN).labels[MANAGED_BY] == "keyturn"


async def test_a_save_into_what_stands_there_now() -> None:
    server, tokens, made = await kept()
    del server.objects[TOKEN]
    await tokens.create(REQUEST, replace(KEPT, value="put back"))
    saved = await tokens.save(REQUEST, replace(NEXT, uid=made.uid, version=made.version))

    assert saved.uid != made.uid
    assert server.data(TOKEN)["license_token"] == "planted-after"


async def test_a_save_does_not_write_over_a_secret_of_somebody_else() -> None:
    server, tokens, made = await kept()
    del server.objects[TOKEN]
    server.put(TOKEN, data={"license_token": "dGhlaXJz"})

    with pytest.raises(UnavailableError, match="is not ours any more; delete it"):
        await tokens.save(REQUEST, replace(NEXT, uid=made.uid, version=made.version))
    assert server.data(TOKEN) == {"license_token": "theirs"}


async def test_a_refusal_does_not_tell_the_token() -> None:
    server, tokens, made = await kept()
    server.responses[f"PATCH {TOKEN}"] = ApiResponse(403, {"message": "planted-after and planted-token are not"})

    with pytest.raises(RefusedError) as refused:
        await tokens.save(REQUEST, replace(NEXT, uid=made.uid, version=made.version))

    assert refused.value.reason == "WriteDenied"
    assert "planted" not in refused.value.message


async def test_a_token_is_kept_where_the_spec_says() -> None:
    ref = {"name": "license", "key": "license_token"}
    moved = rotating(source={"token": {"secretKeyRef": ref, "saveTo": {"secretName": "live"}}})
    server = ApiServer()
    await TokenSecrets(server).create(moved, KEPT)

    assert [*server.objects] == [f"{SECRETS}/live"]
