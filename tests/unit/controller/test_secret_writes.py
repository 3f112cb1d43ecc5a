from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.controller.api_client import ApiResponse
from keyturn.core.errors import BeingDeletedError, RefusedError, UnavailableError
from keyturn.core.issuance import ADOPTABLE_BY, ISSUANCE_ANNOTATION, MANAGED_BY
from keyturn.core.renewal import check_ours
from tests.support.dependencies import request, rotating
from tests.support.secret_store import DATA, REQUEST, SECRETS, TARGET, TOKEN_REQUEST, cluster, issuance, issued

# As many fields as make a write slow.
MANY = {f"key-{number}": "" for number in range(6000)}


async def test_adopted_secret_keeps_the_keys_of_others_and_gets_no_owner() -> None:
    server, store = cluster()
    server.put(TARGET, data={"theirs": "eA=="}, metadata={"annotations": {ADOPTABLE_BY: "acme"}})
    await store.dry_run(REQUEST)
    await store.write(REQUEST, issuance(), DATA)
    assert (server.data(TARGET), server.meta(TARGET).owner_references) == ({"theirs": "x", **DATA}, ())

    moved = request(target={"secretName": "new"})
    await store.write(moved, issuance(moved), DATA)
    assert server.data(TARGET) == {"theirs": "x"}
    meta = server.meta(TARGET)
    assert (meta.labels, meta.annotations) == ({}, {ADOPTABLE_BY: "acme"})
    assert [fields.manager for fields in meta.managed_fields] == ["kubectl-edit"]


@pytest.mark.parametrize(
    ("uid", "is_deleted"),
    [
        pytest.param("another", True, id="request deleted too"),
        pytest.param(REQUEST.uid, False, id="request still exists"),
    ],
)
async def test_dry_run_for_a_deleted_secret_checks_the_request(uid: str, *, is_deleted: bool) -> None:
    server, store = await issued()
    meta = server.meta(TARGET)
    del server.objects[TARGET]
    store.cache.observe(meta, alive=False)
    with pytest.raises(BeingDeletedError) if is_deleted else nullcontext():
        await store.dry_run(replace(REQUEST, uid=uid))

    assert server.requests == [f"GET {TOKEN_REQUEST}"] + ([] if is_deleted else [f"PATCH {TARGET}"])


async def test_namespaces_that_are_created_in_a_loop_use_no_memory() -> None:
    server, store = cluster()
    for number in range(5000):
        await store.dry_run(request(namespace=f"n{number}"))
        server.requests.clear()

    assert len(store._dry_run_passed) < 5000


@pytest.mark.parametrize(
    ("second", "seconds", "dry_runs"),
    [
        pytest.param(request("other"), 9, 1, id="within ten seconds"),
        pytest.param(request("other"), 10, 2, id="after ten seconds"),
        pytest.param(request("other", namespace="else"), 0, 2, id="in another namespace"),
        pytest.param(request("other", target={"metadata": {"labels": {"a": "b"}}}), 0, 2, id="with other labels"),
        pytest.param(rotating(), 0, 2, id="request consumes a token"),
    ],
)
async def test_dry_run_is_skipped_after_a_recent_one(second: Request, seconds: float, dry_runs: int) -> None:
    clock = [0.0]
    server, store = cluster(lambda: clock[0])
    await store.dry_run(REQUEST)
    clock[0] += seconds
    await store.dry_run(second)

    assert (server.count("PATCH"), len(server.requests)) == (dry_runs, dry_runs)
    assert TARGET not in server.objects


async def test_dry_run_is_repeated_after_a_refused_write() -> None:
    server, store = cluster()
    await store.dry_run(REQUEST)
    server.responses[f"PATCH {TARGET}"] = ApiResponse(403, {"message": "denied"})
    with pytest.raises(RefusedError, match="denied"):
        await store.write(REQUEST, issuance(), DATA)

    with pytest.raises(RefusedError, match="denied"):
        await store.dry_run(REQUEST)


async def test_secret_of_another_owner_is_not_written_without_dry_run() -> None:
    server, store = cluster()
    server.put(TARGET, data={"theirs": "eA=="})

    with pytest.raises(RefusedError, match="was not created by Keyturn"):
        await store.write(REQUEST, issuance(), DATA)

    assert server.data(TARGET) == {"theirs": "x"}


async def test_secret_of_another_owner_seen_during_the_exchanges_is_kept() -> None:
    server, store = cluster()
    theirs = server.put(TARGET, data={"theirs": "eA=="}, metadata={"labels": {MANAGED_BY: "keyturn"}})
    store.cache.observe(theirs, alive=True)

    with pytest.raises(RefusedError, match="was not created by Keyturn"):
        await store.write(REQUEST, issuance(), DATA)

    assert (server.data(TARGET), server.meta(TARGET).owner_references) == ({"theirs": "x"}, ())


@pytest.mark.parametrize("is_recreated", [True, False], ids=["recreated by somebody else", "deleted"])
async def test_change_that_the_watch_has_not_shown_is_read(*, is_recreated: bool) -> None:
    server, store = await issued()
    server.delete(TARGET)
    if is_recreated:
        server.put(TARGET, data={"theirs": "eA=="})

    with pytest.raises(RefusedError, match="was not created by Keyturn") if is_recreated else nullcontext():
        await store.write(REQUEST, issuance(revision=2), DATA)

    assert server.data(TARGET) == ({"theirs": "x"} if is_recreated else DATA)
    assert server.requests[:2] == [f"PATCH {TARGET}", f"GET {TARGET}"]


async def test_refused_write_is_reported_without_the_data() -> None:
    server, store = cluster()
    server.responses[f"PATCH {TARGET}"] = ApiResponse(403, {"message": 'denied: "planted-token" is not allowed'})

    with pytest.raises(RefusedError) as refused:
        await store.write(REQUEST, issuance(), DATA)

    assert refused.value.reason == "WriteDenied"
    assert refused.value.message == 'the API server refused to write Secret acme: denied: "..." is not allowed'


async def test_conflict_on_own_secret_is_forced() -> None:
    server, store = await issued()
    server.put(TARGET, data={"token": "ZWRpdGVk"})
    await store.write(REQUEST, issuance(revision=2), DATA)

    assert server.requests == [f"PATCH {TARGET}", f"GET {TARGET}", f"PATCH {TARGET}"]
    assert server.data(TARGET) == DATA


async def test_immutable_secret_is_refused() -> None:
    server, store = await issued()
    server.put(TARGET, immutable=True)

    with pytest.raises(RefusedError, match="is immutable"):
        await store.write(REQUEST, issuance(), {**DATA, "token": "new"})


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"data": MANY}, id="keys"),
        pytest.param({"metadata": {"labels": MANY}}, id="labels"),
        pytest.param({"metadata": {"annotations": MANY}}, id="annotations"),
        pytest.param({"metadata": {"ownerReferences": [{"uid": name} for name in MANY]}}, id="owners"),
    ],
)
async def test_secret_with_too_many_fields_is_refused(fields: dict[str, Any]) -> None:
    server, store = await issued()
    server.put(TARGET, **fields)
    store.cache.invalidate(REQUEST)
    target = await store.read_target(REQUEST)
    assert target
    with pytest.raises(RefusedError, match="more than 5,000 keys") as refused:
        check_ours(REQUEST, target)
    assert refused.value.reason == "TargetConflict"


async def test_apply_metadata_skips_a_secret_edited_in_the_meantime() -> None:
    server, store = await issued()
    server.put(TARGET, data={"token": "ZWRpdGVk"})
    await store.apply_metadata(REQUEST, issuance())

    assert server.count("PATCH") == 0


async def test_recreated_request_takes_over_its_secret() -> None:
    server, store = await issued()
    recreated = request(uid="else-0002")
    await store.write(recreated, issuance(recreated), DATA)

    assert [owner.uid for owner in server.meta(TARGET).owner_references] == ["else-0002"]
    assert {fields.manager for fields in server.meta(TARGET).managed_fields} == {"keyturn-else-000"}


async def test_changed_secret_name_deletes_the_former_secret() -> None:
    server, store = await issued()
    moved = request(target={"secretName": "new"})
    await store.write(moved, issuance(moved), DATA)

    assert TARGET not in server.objects
    assert server.data(f"{SECRETS}/new") == DATA


async def test_retained_secret_keeps_its_data_without_our_metadata() -> None:
    server, store = await issued(request(target={"deletionPolicy": "Retain"}))
    server.put(TARGET, metadata={"ownerReferences": [{"uid": "other"}]})
    moved = request(target={"secretName": "new", "deletionPolicy": "Retain"})
    await store.write(moved, issuance(moved), DATA)
    meta = server.meta(TARGET)

    assert server.data(TARGET) == server.data(f"{SECRETS}/new") == DATA
    assert not {ISSUANCE_ANNOTATION, MANAGED_BY} & (meta.annotations.keys() | meta.labels.keys())
    assert [owner.uid for owner in meta.owner_references] == ["other"]


@pytest.mark.parametrize("target", [{}, {"secretName": "new", "deletionPolicy": "Retain"}], ids=["named", "retained"])
async def test_former_secret_is_kept_if_the_spec_changes_before_its_deletion(target: dict[str, Any]) -> None:
    server, store = await issued()
    moved = request(target={"secretName": "new"})
    versions = iter([moved, moved, request(target=target)])
    store.follow_changes(lambda _: next(versions))
    await store.write(moved, issuance(moved), DATA)

    assert TARGET in server.objects
    assert next(versions, None) is None


async def test_former_secret_that_cannot_be_released_fails_no_renewal() -> None:
    server, store = await issued()
    moved = request(target={"secretName": "new"})
    server.responses[f"DELETE {TARGET}"] = UnavailableError("Unreachable", "no response")
    await store.write(moved, issuance(moved), DATA)
    server.responses.clear()
    await store.write(moved, issuance(moved, revision=2), DATA)

    assert TARGET not in server.objects
    assert server.data(f"{SECRETS}/new") == DATA
