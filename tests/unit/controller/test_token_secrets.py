from dataclasses import replace
from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.controller.api_client import ApiResponse
from keyturn.controller.token_secrets import TOKEN_OF, TokenSecrets
from keyturn.core.errors import BeingDeletedError, LeaseLostError, RefusedError, UnavailableError
from keyturn.core.issuance import ADOPTABLE_BY, MANAGED_BY
from keyturn.core.token_family import Intent, StoredToken, TokenFamily
from tests.support.api_server import ApiServer
from tests.support.cases import cases
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


async def test_read_that_is_refused_is_not_reported_as_a_write() -> None:
    server, tokens, _ = await cluster()
    server.responses[f"GET {TOKEN}"] = ApiResponse(403, {"message": "secrets is forbidden"})
    for read in (tokens.read(REQUEST), tokens.read_family(REQUEST, "license-keyturn")):
        with pytest.raises(RefusedError, match="Secret license-keyturn cannot be read: secrets is"):
            await read


async def test_token_secret_with_many_keys_is_recognized() -> None:
    server, tokens, _ = await cluster()
    server.put(TOKEN, data={f"key-{number}": "" for number in range(6000)})
    token = await tokens.read(REQUEST)

    assert token
    assert token.has_too_many_fields


async def test_dry_run_on_an_immutable_secret_is_refused() -> None:
    server, tokens, stored = await cluster()
    server.put(TOKEN, immutable=True)
    stored = replace(stored, version=server.meta(TOKEN).resource_version)

    with pytest.raises(RefusedError, match="immutable") as refused:
        await tokens.update(REQUEST, stored, dry_run=True)

    assert refused.value.reason == "WriteDenied"


async def test_keep_and_save_are_one_request_each() -> None:
    server, tokens, stored = await cluster()
    kept = await tokens.update(REQUEST, replace(stored, family=KNOWN))
    await tokens.prepare_save(REQUEST, replace(NEXT, uid=kept.uid, version=kept.version))()

    assert server.requests == [f"PATCH {TOKEN}"] * 2


async def test_save_succeeds_after_changes_by_others() -> None:
    server, tokens, stored = await cluster()
    server.put(TOKEN, metadata={"labels": {"note": "x"}})
    await tokens.prepare_save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))()

    assert server.data(TOKEN) == {"license_token": "planted-after", "license_token.previous": "planted-token"}
    assert server.meta(TOKEN).labels["note"] == "x"


@pytest.mark.parametrize("deleted", [False, True])
async def test_save_succeeds_after_the_lease_is_lost(*, deleted: bool) -> None:
    server, tokens, stored = await cluster()
    server.may_write = lambda _: False
    with pytest.raises(LeaseLostError):
        await tokens.update(REQUEST, stored)
    if deleted:
        del server.objects[TOKEN]
    await tokens.prepare_save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))()

    assert server.data(TOKEN)["license_token"] == "planted-after"
    assert server.meta(TOKEN).labels[MANAGED_BY] == "keyturn"


async def test_intent_is_withdrawn_after_the_lease_is_lost() -> None:
    server, tokens, stored = await cluster()
    server.may_write = lambda _: False
    await tokens.withdraw(REQUEST, replace(stored, family=KNOWN))

    assert (await tokens.read(REQUEST) or stored).family == KNOWN
    with pytest.raises(UnavailableError, match="was changed in the meantime"):
        await tokens.withdraw(REQUEST, stored)


async def test_save_does_not_overwrite_a_secret_of_another_owner() -> None:
    server, tokens, stored = await cluster()
    del server.objects[TOKEN]
    server.put(TOKEN, data={"license_token": "dGhlaXJz"})

    with pytest.raises(RefusedError, match="is no longer a Keyturn token Secret; delete it"):
        await tokens.prepare_save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))()
    assert server.data(TOKEN) == {"license_token": "theirs"}


NOT_JSON = {"message": "HTTP 200 with a response that is not JSON", "metadata": {}}


@cases(
    "path, response",
    {
        "a page of a proxy": (f"PATCH {TOKEN}", ApiResponse(200, NOT_JSON)),
        "an empty object": (f"PATCH {TOKEN}", ApiResponse(200, {})),
        "no metadata": (f"PATCH {TOKEN}", ApiResponse(201, {"metadata": None, "data": None})),
        "a page of a proxy to the read": (f"GET {TOKEN}", ApiResponse(200, NOT_JSON)),
        "404 of a proxy": (f"POST {SECRETS}", ApiResponse(404, NOT_JSON)),
        "404 of a gateway": (f"POST {SECRETS}", ApiResponse(404, {"message": "no route"})),
        "404 of the API server for the resource": (f"POST {SECRETS}", ApiResponse(404, {"reason": "NotFound"})),
    },
)
async def test_save_is_no_success_without_the_secret(path: str, response: ApiResponse) -> None:
    server, tokens, stored = await cluster()
    if not path.startswith("PATCH"):
        del server.objects[TOKEN]
    server.responses[path] = response
    save = tokens.prepare_save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))

    with pytest.raises(UnavailableError):
        await save()
    server.responses.clear()
    await save()
    assert server.data(TOKEN)["license_token"] == "planted-after"


@cases(
    "response",
    {
        "gone": ApiResponse(404, {"reason": "NotFound", "details": {"kind": "namespaces", "name": "billing"}}),
        "terminating": ApiResponse(403, {"details": {"causes": [{"reason": "NamespaceTerminating"}]}}),
    },
)
async def test_save_ends_if_the_namespace_is_gone(response: ApiResponse) -> None:
    server, tokens, stored = await cluster()
    del server.objects[TOKEN]
    server.responses[f"POST {SECRETS}"] = response

    with pytest.raises(BeingDeletedError):
        await tokens.prepare_save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))()


async def test_refusal_contains_no_token() -> None:
    server, tokens, stored = await cluster()
    server.responses[f"PATCH {TOKEN}"] = ApiResponse(403, {"message": "planted-after and planted-token are not"})

    with pytest.raises(RefusedError) as refused:
        await tokens.prepare_save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))()

    assert refused.value.reason == "WriteDenied"
    assert "planted" not in refused.value.message


async def test_token_is_stored_in_the_secret_of_save_to() -> None:
    ref = {"name": "license", "key": "license_token"}
    moved = rotating(source={"token": {"secretKeyRef": ref, "saveTo": {"secretName": "live"}}})
    server = ApiServer()
    await TokenSecrets(server).create(moved, STORED)

    assert [*server.objects] == [f"{SECRETS}/live"]


def labelled(team: str, name: str = "acme") -> Request:
    """Return a request whose token Secret gets a label and an annotation."""
    metadata = {"labels": {"team": team}, "annotations": {"example.com/owner": team}}
    ref = {"name": "license", "key": "license_token"}
    save_to = {"secretName": "license-keyturn", "metadata": metadata}
    return rotating(name, source={"token": {"secretKeyRef": ref, "saveTo": save_to}})


async def test_token_secret_has_the_metadata_of_the_spec() -> None:
    server = ApiServer()
    await TokenSecrets(server).create(labelled("blue"), STORED)
    meta = server.meta(TOKEN)

    assert meta.labels == {"team": "blue", MANAGED_BY: "keyturn", TOKEN_OF: "license"}
    assert meta.annotations.keys() == {"example.com/owner", "keyturn.dev/token-family"}


async def test_existing_token_secret_gets_missing_labels_only() -> None:
    server, tokens, _ = await cluster()
    server.put(TOKEN, metadata={"labels": {"note": "by a person"}, "annotations": {"example.com/owner": "a person"}})
    stored = await tokens.read(labelled("blue"))
    assert stored

    await tokens.update(labelled("blue"), stored, dry_run=True)
    assert "team" not in server.meta(TOKEN).labels

    await tokens.update(labelled("blue"), stored)
    meta = server.meta(TOKEN)
    assert (meta.labels["team"], meta.labels["note"]) == ("blue", "by a person")
    assert meta.annotations["example.com/owner"] == "a person"


async def test_requests_that_disagree_about_a_label_do_not_alternate() -> None:
    server = ApiServer()
    tokens = TokenSecrets(server)
    await tokens.create(labelled("blue"), STORED)
    for request in (labelled("red", "other"), labelled("blue"), labelled("red", "other")):
        stored = await tokens.read(request)
        assert stored
        await tokens.update(request, stored)
        assert server.meta(TOKEN).labels["team"] == "blue"


@cases(
    "secret, is_adoptable",
    {
        "empty, with consent": ({"metadata": {"annotations": {ADOPTABLE_BY: "acme"}}}, True),
        "empty, for another request": ({"metadata": {"annotations": {ADOPTABLE_BY: "other"}}}, False),
        "empty, without consent": ({}, False),
        "with data": ({"metadata": {"annotations": {ADOPTABLE_BY: "acme"}}, "data": {"other": "eA=="}}, False),
    },
)
async def test_only_an_empty_secret_with_consent_is_adoptable(secret: dict[str, Any], *, is_adoptable: bool) -> None:
    server = ApiServer()
    server.put(TOKEN, **secret)
    stored = await TokenSecrets(server).read(REQUEST)

    assert stored
    assert stored.is_adoptable is is_adoptable


async def test_save_writes_to_a_secret_that_was_emptied_meanwhile() -> None:
    server, tokens, stored = await cluster()
    del server.objects[TOKEN]
    server.put(TOKEN, metadata={"labels": {"team": "blue"}, "annotations": {ADOPTABLE_BY: "acme"}})
    await tokens.prepare_save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))()

    assert server.data(TOKEN)["license_token"] == "planted-after"
    assert server.meta(TOKEN).labels == {"team": "blue", MANAGED_BY: "keyturn", TOKEN_OF: "license"}


@cases("dry_run", {"a dry run": True, "the intent": False})
async def test_response_without_the_change_is_not_a_success(*, dry_run: bool) -> None:
    """For example, a webhook that changes the data, or a proxy that returns an earlier version."""
    server, tokens, stored = await cluster()
    server.responses[f"PATCH {TOKEN}"] = ApiResponse(200, dict(server.objects[TOKEN]))

    with pytest.raises(UnavailableError, match="does not contain what was sent"):
        await tokens.update(REQUEST, replace(stored, family=KNOWN), dry_run=dry_run)


async def test_save_whose_response_lacks_the_token_can_be_repeated() -> None:
    server, tokens, stored = await cluster()
    save = tokens.prepare_save(REQUEST, replace(NEXT, uid=stored.uid, version=stored.version))
    server.responses[f"PATCH {TOKEN}"] = ApiResponse(200, dict(server.objects[TOKEN]))
    with pytest.raises(UnavailableError, match="does not contain what was sent"):
        await save()
    server.responses.clear()
    await save()

    assert server.data(TOKEN)["license_token"] == "planted-after"
