import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from keyturn.api.token_request import RENEW_REQUESTED
from keyturn.controller.api_client import ApiResponse
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from tests.support.controller import Operator, issued
from tests.support.dependencies import HOUR, MINUTE, NOW, SECOND, manifest
from tests.support.issuance_keys import OTHER_KEYS
from tests.support.rotation import Checkpoint
from tests.support.secret_store import SOURCE, TARGET, TOKEN_REQUEST


async def test_new_request_is_reconciled_immediately_and_status_written() -> None:
    operator = Operator()
    await operator.deliver()

    assert await operator.reconcile_due() == 1
    assert (operator.status()["conditions"][0]["reason"], operator.work_queue.next_due()) == (
        "Issued",
        NOW + 40 * MINUTE,
    )
    # The dry run and the Event.
    assert operator.server.count("POST") == 2


async def test_routine_renewal_writes_secret_and_status_once() -> None:
    operator = await issued()
    await operator.reconcile_due(NOW + 40 * MINUTE)

    assert operator.server.requests == [f"GET {SOURCE}", f"PATCH {TARGET}", f"PATCH {TOKEN_REQUEST}"]
    assert operator.status()["revision"] == 2


async def test_restart_reads_and_writes_nothing() -> None:
    operator = await issued()
    operator.start()
    operator.controller.on_secret(operator.server.meta(TARGET), alive=True)
    await operator.deliver()

    assert (await operator.reconcile_due(), operator.server.requests, operator.aws.calls) == (0, [], [])
    assert operator.work_queue.next_due() == NOW + 40 * MINUTE


async def test_restart_corrects_the_report_about_an_unsaved_token() -> None:
    operator = await issued()
    operator.status()["lastError"] = {"reason": "TokenUnsaved", "message": "only the memory of pod-0 has the token"}
    operator.start()
    operator.controller.on_secret(operator.server.meta(TARGET), alive=True)
    await operator.deliver()
    await operator.reconcile_due()

    assert "lastError" not in operator.status()
    assert operator.aws.calls == []


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param({"data": {"AWS_REGION": "eA=="}}, id="data edited while the operator was down"),
        pytest.param({"metadata": {"annotations": {"keyturn.dev/issuance": "{}"}}}, id="issuance record edited"),
    ],
)
async def test_secret_edited_before_a_restart_is_reconciled(edit: dict[str, Any]) -> None:
    operator = await issued()
    operator.server.put(TARGET, **edit)
    operator.start()
    operator.controller.on_secret(operator.server.meta(TARGET), alive=True)
    await operator.deliver()

    assert await operator.reconcile_due() == 1
    assert len(operator.aws.calls) == 2


async def test_restart_with_secret_that_lost_its_label_makes_no_exchange() -> None:
    operator = await issued()
    operator.start()
    await operator.deliver()
    await operator.reconcile_due()

    assert operator.aws.calls == []
    assert operator.status()["conditions"][0]["status"] == "True"


async def test_unverified_record_is_queued_by_its_expiry_and_renewed_once() -> None:
    operator = await issued()
    operator.keys = OTHER_KEYS
    operator.start()
    operator.controller.on_secret(operator.server.meta(TARGET), alive=True)
    await operator.deliver()
    [entry] = operator.controller.index.entries.values()

    assert (entry.state.issuance, entry.expires) == (None, NOW + HOUR)
    assert (await operator.reconcile_due(), len(operator.aws.calls)) == (1, 2)
    assert (await operator.reconcile_due(NOW + MINUTE), operator.status()["revision"]) == (0, 2)


@pytest.mark.parametrize("watched", [True, False], ids=["watched Secrets", "Secrets that are read"])
async def test_forged_status_delays_no_attempt_beyond_a_quarter_of_what_is_left(*, watched: bool) -> None:
    operator = await issued(watched=watched)
    operator.aws.failures = [UnavailableError("Unreachable", "no response")]
    await operator.reconcile_due(NOW + 52 * MINUTE)
    operator.status()["nextAttemptTime"] = "2100-01-01T00:00:00Z"
    operator.start(watched=watched)
    if watched:
        operator.controller.on_secret(operator.server.meta(TARGET), alive=True)
    await operator.deliver()
    await operator.reconcile_due()

    assert operator.work_queue.next_due() == NOW + 54 * MINUTE


async def test_restart_keeps_the_time_of_the_next_attempt() -> None:
    operator = Operator()
    operator.outside.rand = 0.9
    operator.aws.failures = [UnavailableError("Unreachable", "no response")]
    await operator.deliver()
    await operator.reconcile_due()
    due = operator.work_queue.next_due()
    operator.start()
    await operator.deliver()

    assert operator.work_queue.next_due() == due == NOW + 4 * SECOND


@pytest.mark.parametrize("edit", [None, {"data": {"AWS_REGION": "eA=="}}], ids=["deleted", "edited"])
async def test_secret_damaged_before_a_restart_is_reported_after_a_failure(edit: dict[str, Any] | None) -> None:
    operator = await issued()
    operator.aws.failures = [ThrottledError("slow", retry_after=HOUR)]
    await operator.reconcile_due(NOW + 40 * MINUTE)
    assert operator.status()["conditions"][0]["status"] == "True"
    if edit:
        operator.server.put(TARGET, **edit)
    else:
        operator.server.delete(TARGET)
    operator.start()
    if edit:
        operator.controller.on_secret(operator.server.meta(TARGET), alive=True)
    await operator.deliver()
    exchanges = len(operator.aws.calls)
    await operator.reconcile_due()

    assert operator.status()["conditions"][0]["status"] == "False"
    assert len(operator.aws.calls) == exchanges


async def test_spec_change_is_reconciled_immediately() -> None:
    operator = await issued()
    await operator.deliver(region="eu-west-1")
    await operator.reconcile_due(NOW + MINUTE)

    assert operator.status()["conditions"][1]["message"].startswith("issued because of SpecChanged")
    assert operator.status()["observedGeneration"] == 2


async def test_requested_renewal_is_reconciled_immediately() -> None:
    operator = await issued()
    await operator.deliver(annotations={RENEW_REQUESTED: "now"})
    await operator.reconcile_due(NOW + MINUTE)

    assert (operator.status()["revision"], operator.status()["lastHandledRenewRequest"]) == (2, "now")


async def test_edited_secret_is_repaired() -> None:
    operator = await issued()
    meta = operator.server.put(TARGET, data={"AWS_REGION": "eA=="})
    operator.controller.on_secret(meta, alive=True)
    await operator.reconcile_due(NOW + SECOND)

    assert operator.status()["conditions"][1]["reason"] == "DriftCorrected"


async def edit_the_secret(operator: Operator, number: int) -> None:
    meta = operator.server.put(TARGET, metadata={"labels": {"note": str(number)}})
    operator.controller.on_secret(meta, alive=True)


async def edit_the_spec(operator: Operator, number: int) -> None:
    body = manifest(region=f"eu-west-{number}")
    body["metadata"]["generation"] = 2 + number
    await operator.controller.on_request(body, alive=True)


@pytest.mark.parametrize("edit", [edit_the_secret, edit_the_spec])
async def test_edits_in_a_loop_are_reconciled_once_a_second(
    edit: Callable[[Operator, int], Awaitable[None]],
) -> None:
    operator = await issued()
    reconciliations = 0
    for tenth in range(20):
        await edit(operator, tenth)
        reconciliations += await operator.reconcile_due(NOW + tenth * SECOND / 10)

    assert reconciliations == 1


async def test_suspended_request_does_not_reread_an_unlabelled_secret() -> None:
    operator = await issued()
    await operator.deliver(suspend=True)
    meta = operator.server.put(TARGET, metadata={"labels": {"app.kubernetes.io/managed-by": "Helm"}})
    operator.controller.on_secret(meta, alive=False)
    await operator.reconcile_due(NOW + SECOND)

    assert await operator.reconcile_due(NOW + MINUTE) == 0


async def test_watch_events_for_own_writes_trigger_no_reconciliation() -> None:
    operator = await issued()
    await operator.deliver()
    operator.controller.on_secret(operator.server.meta(TARGET), alive=True)

    assert await operator.reconcile_due() == 0


@pytest.mark.parametrize(
    ("changes", "is_known"),
    [
        pytest.param({"resourceVersion": "99", "labels": {"team": "blue"}}, True, id="our status write, or a label"),
        pytest.param({"generation": 2}, False, id="the spec changed"),
        pytest.param({"annotations": {RENEW_REQUESTED: "now"}}, False, id="a renewal is requested"),
        pytest.param({"annotations": {"note": "now"}}, True, id="another annotation"),
        pytest.param({"deletionTimestamp": "2026-11-29T10:00:00Z"}, False, id="it is being deleted"),
        pytest.param({"uid": "acme-0002"}, False, id="it was created again"),
    ],
)
async def test_change_is_known_if_it_concerns_only_status_or_labels(*, changes: dict[str, Any], is_known: bool) -> None:
    operator = await issued()
    metadata = {"name": "acme", "namespace": "billing", "uid": "acme-0001", "generation": 1}

    assert operator.controller.is_known(metadata | changes) == is_known


async def test_change_of_a_labelled_source_is_reconciled() -> None:
    operator = await issued()
    meta = operator.server.put(SOURCE, data={"license_token": "bmV3"})
    operator.controller.on_source_secret(meta, _alive=True)
    await operator.reconcile_due(NOW + MINUTE)

    assert operator.status()["revision"] == 2


async def test_source_of_many_requests_is_handled_in_the_background() -> None:
    operator = Operator()
    for number in range(1000):
        body = manifest(f"acme-{number}", suspend=True)
        await operator.controller.on_request(body, alive=True)
    await operator.reconcile_due()
    meta = operator.server.put(SOURCE, data={"license_token": "bmV3"})
    later = operator.outside.now + MINUTE

    operator.outside.now = later
    operator.controller.on_source_secret(meta, _alive=True)
    assert operator.work_queue.get(later) is None
    await work_in_the_background(operator)

    assert await operator.reconcile_due() == 1000


async def test_deleted_request_is_removed_from_the_queue() -> None:
    operator = await issued()
    await operator.deliver(alive=False)

    assert (operator.work_queue.next_due(), list(operator.controller.index.series())) == (None, [])


@pytest.mark.parametrize(
    ("uids", "namespace", "remaining"),
    [
        pytest.param({"acme-0001"}, "", 1, id="request is in the list"),
        pytest.param({"other"}, "", 0, id="only another request is in the list"),
        pytest.param(set(), "billing", 0, id="list of its namespace is empty"),
        pytest.param(set(), "elsewhere", 1, id="list of another namespace is empty"),
    ],
)
async def test_request_missing_from_a_full_list_is_removed_from_the_queue(
    uids: set[str], namespace: str, remaining: int
) -> None:
    operator = await issued()
    operator.controller.on_request_list(uids, namespace)

    assert (operator.work_queue.counts()["delayed"], len(operator.controller.index.entries)) == (remaining, remaining)


async def test_invalid_spec_is_reported_once_and_not_reconciled_again() -> None:
    operator = Operator()
    for _ in range(2):
        await operator.deliver(region="-")
        await operator.reconcile_due()

    assert operator.server.count("PATCH") == 1
    assert operator.status()["conditions"][0]["reason"] == "InvalidSpec"
    assert await operator.reconcile_due(NOW + 24 * HOUR) == 0


async def delete_unseen(operator: Operator) -> None:
    operator.controller.on_request_list(set(), "billing")


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda operator: operator.deliver(), id="spec corrected"),
        pytest.param(lambda operator: operator.deliver(alive=False), id="deleted"),
        pytest.param(delete_unseen, id="deleted without a watch event"),
    ],
)
async def test_stalled_metric_of_an_invalid_spec_ends_with_it(
    end: Callable[[Operator], Awaitable[None]],
) -> None:
    operator = Operator()
    await operator.deliver(region="-")
    await operator.reconcile_due()
    (series,) = operator.controller.index.series()
    await end(operator)
    await operator.reconcile_due()
    after = [later.conditions for later in operator.controller.index.series()]

    stalled = ("Stalled", "True", "InvalidSpec")
    assert (series.namespace, series.name, stalled in series.conditions) == ("billing", "acme", True)
    assert [conditions for conditions in after if stalled in conditions] == []


async def test_status_write_that_fails_is_retried_later() -> None:
    operator = Operator()
    await operator.deliver()
    operator.server.responses[f"PATCH {TOKEN_REQUEST}"] = ApiResponse(403, {"message": "no"})
    await operator.reconcile_due()
    operator.server.responses.clear()
    await operator.reconcile_due(NOW + 10 * SECOND)

    assert (operator.status()["revision"], len(operator.aws.calls)) == (1, 2)


async def test_request_deleted_during_reconciliation_is_not_queued_again() -> None:
    operator = await issued()
    del operator.server.objects[TOKEN_REQUEST]
    await operator.reconcile_due(NOW + HOUR)
    await operator.deliver(alive=False)

    assert operator.work_queue.next_due() is None


async def delete(operator: Operator) -> None:
    await operator.deliver(alive=False)


async def choose_another_target(operator: Operator) -> None:
    await operator.deliver(target={"secretName": "other"})


async def make_the_spec_invalid(operator: Operator) -> None:
    await operator.deliver(region="Invalid")


@pytest.mark.parametrize("change", [delete, choose_another_target, make_the_spec_invalid])
@pytest.mark.parametrize("is_during_reconciliation", [False, True])
async def test_foreign_secret_is_forgotten_with_its_last_request(
    change: Callable[[Operator], Awaitable[None]], *, is_during_reconciliation: bool
) -> None:
    """The watch does not show a Secret without our label, so it does not show its deletion either."""
    operator = Operator()
    operator.server.put(TARGET, data={"key": "eA=="})
    await operator.deliver()
    if is_during_reconciliation:
        [uid] = operator.controller.index.entries
        read = operator.store.sources.read

        async def change_and_read(*arguments: Any, **options: Any) -> Any:
            await change(operator)
            return await read(*arguments, **options)

        operator.store.sources.read = change_and_read  # type: ignore[method-assign]
        assert operator.work_queue.get(NOW) == uid
        await operator.controller.run_one(uid)
    else:
        await operator.reconcile_due()
        assert operator.store.cache.get(("billing", "acme"))
        await change(operator)

    assert f"GET {TARGET}" in operator.server.requests
    assert operator.store.cache.get(("billing", "acme")) is None


@pytest.mark.parametrize("watched", [True, False])
async def test_managed_secret_is_kept_until_the_watch_shows_its_deletion(*, watched: bool) -> None:
    operator = await issued(watched=watched)
    await delete(operator)

    assert (operator.store.cache.get(("billing", "acme")) is not None) is watched


async def test_foreign_secret_is_not_forgotten_while_another_request_has_it() -> None:
    operator = Operator()
    operator.server.put(TARGET, data={"key": "eA=="})
    await operator.deliver()
    await operator.reconcile_due()
    other = manifest(target={"secretName": "acme"})
    other["metadata"] |= {"name": "other", "uid": "other-0001"}
    await operator.controller.on_request(other, alive=True)
    await operator.controller.on_request(other, alive=False)

    assert operator.store.cache.get(("billing", "acme"))


def unreachable(system: str) -> UnavailableError:
    return UnavailableError("Unreachable", f"{system} did not respond", service=system)


@pytest.mark.parametrize(
    ("failures", "system", "reconciliations"),
    [
        pytest.param([unreachable("sts")], "sts", 1, id="the failed service recovers"),
        pytest.param([unreachable("sts")], "other", 0, id="another service recovers"),
        pytest.param([RefusedError("AccessDenied", "no")], "sts", 0, id="the failure needs a person"),
        pytest.param([], "sts", 0, id="the request is healthy"),
    ],
)
async def test_recovered_service_retries_its_failed_requests(
    failures: list[KeyturnError], system: str, reconciliations: int
) -> None:
    operator = Operator()
    operator.outside.rand = 0.9
    operator.aws.failures = failures.copy()
    await operator.deliver()
    await operator.reconcile_due()
    is_awaited = operator.controller.is_awaited(system)
    operator.controller.on_service_recovered(system)

    assert await operator.reconcile_due(NOW + SECOND) == reconciliations
    assert is_awaited == bool(reconciliations)


async def test_recovery_of_many_requests_is_handled_in_the_background() -> None:
    operator = Operator()
    operator.outside.rand = 0.9
    operator.aws.failures = [unreachable("sts")] * 200
    for number in range(200):
        await operator.controller.on_request(manifest(f"acme-{number}"), alive=True)
    await operator.reconcile_due()
    operator.outside.now = later = NOW + SECOND

    operator.controller.on_service_recovered("sts")
    assert operator.work_queue.get(later) is None
    await work_in_the_background(operator)

    assert await operator.reconcile_due() == 200


async def test_release_of_a_large_namespace_is_handled_in_the_background() -> None:
    operator = Operator()
    for number in range(200):
        await operator.controller.on_request(manifest(f"acme-{number}"), alive=True)
        operator.work_queue.add(f"acme-{number}-0001", None, None, "billing")

    operator.controller.on_namespace_free("billing")
    assert operator.work_queue.get(operator.outside.now) is None
    await work_in_the_background(operator)

    assert await operator.reconcile_due() == 200


async def work_in_the_background(operator: Operator) -> None:
    work = asyncio.create_task(operator.controller.batches.run())
    await asyncio.sleep(0.1)
    work.cancel()


def change_region(operator: Operator, region: str) -> Checkpoint:
    """Return a checkpoint that changes the spec during each exchange."""

    async def checkpoint(point: str) -> None:
        if point.startswith("before "):
            await operator.deliver(region=region)

    return checkpoint


async def test_spec_change_during_reconciliation_is_reconciled_next() -> None:
    operator = await issued()
    operator.outside.checkpoint = change_region(operator, "eu-west-1")

    assert await operator.reconcile_due(NOW + 40 * MINUTE) == 1
    assert await operator.reconcile_due(NOW + 40 * MINUTE + SECOND) == 1


async def test_invalid_spec_is_not_overwritten_by_a_stale_reconciliation() -> None:
    operator = await issued()
    operator.outside.checkpoint = change_region(operator, "-")
    await operator.reconcile_due(NOW + 40 * MINUTE)
    await operator.reconcile_due(NOW + 40 * MINUTE + SECOND)

    assert operator.status()["conditions"][0]["reason"] == "InvalidSpec"
    assert operator.status()["observedGeneration"] == 2
    assert await operator.reconcile_due(NOW + 24 * HOUR) == 0


async def test_deleted_invalid_request_leaves_no_metrics_and_no_queue_entry() -> None:
    operator = Operator()
    operator.server.responses[f"PATCH {TOKEN_REQUEST}"] = UnavailableError("Unreachable", "no response")
    await operator.deliver(region="-")
    await operator.reconcile_due()
    operator.server.responses.clear()

    # The DELETED event arrives while the status is written again, and the write returns 404.
    writing = asyncio.create_task(operator.reconcile_due(NOW + 10 * SECOND))
    await asyncio.sleep(0)
    await operator.deliver(alive=False, region="-")
    del operator.server.objects[TOKEN_REQUEST]
    await writing

    assert list(operator.controller.index.series()) == []
    assert operator.work_queue.next_due() is None
    assert operator.work_queue.counts() == {"delayed": 0, "ready": 0, "in_progress": 0}


@pytest.mark.parametrize(
    ("error", "step", "is_retried"),
    [
        pytest.param(UnavailableError("ClockSkew", "behind"), 400 * SECOND, True, id="clock skew, set forward"),
        pytest.param(UnavailableError("ClockSkew", "ahead"), -50 * SECOND, True, id="clock skew, set back"),
        pytest.param(RefusedError("SourceExpired", "expired"), -50 * SECOND, True, id="expired by the wrong clock"),
        pytest.param(RefusedError("SourceInvalid", "revoked"), -50 * SECOND, False, id="not about the time"),
    ],
)
async def test_failure_by_a_wrong_clock_is_retried_when_it_is_set(
    error: KeyturnError, step: timedelta, *, is_retried: bool
) -> None:
    operator = await issued()
    operator.aws.failures.append(error)
    await operator.reconcile_due(NOW + 41 * MINUTE)
    await operator.reconcile_due(NOW + 42 * MINUTE - SECOND)
    calls = len(operator.aws.calls)
    operator.outside.set_clock(step)
    operator.controller.on_clock_set(step)
    await operator.reconcile_due()

    assert (len(operator.aws.calls) > calls) is is_retried
