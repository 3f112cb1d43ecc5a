"""The wait before a token is sent for the last time, while its issuer may be down."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs

from keyturn.api.times import read_time
from keyturn.controller.token_secrets import TokenSecrets
from keyturn.core.errors import KeyturnError, RefusedError, UnavailableError
from keyturn.core.state import ReconcileState
from keyturn.core.token_family import Intent
from keyturn.reconcile.token_locks import TokenLocks
from tests.support.dependencies import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    FakeEnvironment,
    attempt,
    environment,
    request,
    rotating,
)

DOWN = UnavailableError("Unavailable", "HTTP 502", outcome_unknown=True)
READS = ["read_target", "read_source", "read"]
ERRORS = [
    UnavailableError("Unreachable", "the API server did not respond"),
    RefusedError("SourceForbidden", "HTTP 403"),
]


async def during_outage(failures: int = 0) -> FakeEnvironment:
    """Two requests with the same source; the first one received 502. The credentials of the second are damaged.

    The first `failures` writes of the time of the final attempt fail.
    """
    env = environment("seed")
    await env.reconcile(rotating("first"))
    env.aws.life = 12 * HOUR
    await env.reconcile(rotating("second"))
    env.secrets.put("second", data={env.issuance("second").keys[0]: "damaged"})
    env.now = env.issuance("first").renew
    env.aws.issuer.refusal = DOWN
    env.tokens.failures["withdraw"] = [UnavailableError("Unreachable", "no response")] * failures
    assert (await env.reconcile(rotating("first"))).failure_reason == "RefreshOutcomeUnknown"
    return env


def fail_once(env: FakeEnvironment, read: str, error: KeyturnError) -> None:
    store = env.tokens if read == "read" else env.store
    store.failures[read] = [error]


@pytest.mark.parametrize("error", ERRORS, ids=["no response", "forbidden"])
@pytest.mark.parametrize("read", READS)
async def test_failed_read_does_not_end_the_wait(read: str, error: KeyturnError) -> None:
    env = await during_outage()
    wait, requests = env.statuses["first-0001"].next_attempt_time, env.aws.issuer.requests
    await env.reconcile(rotating("first"), MINUTE)
    for _ in range(2):
        fail_once(env, read, error)
        failed = await env.reconcile(rotating("first"), MINUTE)
        assert failed.failure
        resumed = await env.reconcile(rotating("first"), failed.failure.next_attempt_time - env.now)
        assert (failed.failure_reason, resumed.failure_reason) == (error.reason, "RefreshOutcomeUnknown")
        assert resumed.status.next_attempt_time == wait
    env.aws.issuer.refusal = None

    assert env.aws.issuer.requests == requests
    assert (await env.reconcile(rotating("first"), 10 * MINUTE)).failure is None


async def test_read_that_fails_until_the_end_of_the_wait_causes_no_other_wait() -> None:
    env = await during_outage()
    fail_once(env, "read_target", ERRORS[0])
    await env.reconcile(rotating("first"), 10 * MINUTE)
    env.aws.issuer.refusal = None

    assert (await env.reconcile(rotating("first"), 2 * SECOND)).failure is None


async def test_failed_read_is_no_wait_for_the_result_of_another_request() -> None:
    env = await during_outage()
    requests = env.aws.issuer.requests
    fail_once(env, "read_target", ERRORS[0])
    await env.reconcile(rotating("second"), SECOND)
    waiting = await env.reconcile(rotating("second"), MINUTE)

    assert waiting.failure_reason == "RefreshOutcomeUnknown"
    assert waiting.status.next_attempt_time == env.statuses["first-0001"].next_attempt_time
    assert env.aws.issuer.requests == requests


@pytest.mark.parametrize(
    ("refusal", "reason"), [(None, ""), (DOWN, "RefreshOutcomeUnknown")], ids=["succeeded", "failed"]
)
async def test_result_of_another_final_attempt_is_noticed_soon(refusal: KeyturnError | None, reason: str) -> None:
    env = await during_outage()
    await env.reconcile(rotating("second"), SECOND)
    env.aws.issuer.refusal = refusal
    first = await env.reconcile(rotating("first"), 10 * MINUTE)
    requests = env.aws.issuer.requests
    second = await env.reconcile(rotating("second"), MINUTE)

    assert (first.failure_reason, second.failure_reason) == (reason, reason)
    assert all(bool(it.status.condition("Stalled")) is bool(reason) for it in (first, second))
    assert env.aws.issuer.requests == requests + (refusal is None)


async def test_each_unknown_outcome_is_awaited_while_a_later_exchange_fails() -> None:
    env = await during_outage()
    await env.reconcile(rotating("second"), SECOND)
    env.aws.issuer.refusal = None
    await env.reconcile(rotating("first"), 10 * MINUTE)
    env.aws.failures = [UnavailableError("Unavailable", "HTTP 500")]
    assert (await env.reconcile(rotating("second"), MINUTE)).failure_reason == "Unavailable"
    env.aws.issuer.refusal = DOWN
    await env.reconcile(replace(rotating("first"), renew_requested="now"), SECOND)
    requests = env.aws.issuer.requests
    waiting = await env.reconcile(rotating("second"), MINUTE)

    assert waiting.failure_reason == "RefreshOutcomeUnknown"
    assert waiting.status.next_attempt_time == env.statuses["first-0001"].next_attempt_time
    assert env.aws.issuer.requests == requests


async def test_wait_is_one_failure_that_states_its_cause() -> None:
    env = await during_outage()
    before = env.statuses["first-0001"]
    for _ in range(5):
        waiting = await env.reconcile(rotating("first"), MINUTE)
        assert not waiting.tried
        assert waiting.status.last_error == before.last_error
        assert waiting.status.next_attempt_time == before.next_attempt_time


@pytest.mark.parametrize("is_dead", [False, True], ids=["operator", "process with the lock of the state directory"])
@pytest.mark.parametrize("is_written", [True, False], ids=["written", "write failed at first"])
async def test_new_process_waits_too(*, is_written: bool, is_dead: bool) -> None:
    env = await during_outage(failures=0 if is_written else 1)
    requests = env.aws.issuer.requests
    if not is_written:
        await env.reconcile(rotating("first"), 10 * SECOND)
    env.restart()
    env.token_locks = TokenLocks(env.monotonic, is_dead=lambda _: is_dead)
    deps = replace(env.deps, holder="another")
    for _ in range(8):
        env.now += MINUTE
        waiting = await attempt(deps, rotating("first"), ReconcileState())
        assert waiting.failure_reason == "RefreshOutcomeUnknown"
    env.now += 2 * MINUTE
    env.aws.issuer.refusal = None

    assert (await attempt(deps, rotating("first"), ReconcileState())).failure is None
    assert env.aws.issuer.requests == requests + 1


async def test_request_whose_credentials_expire_first_does_not_wait_longer() -> None:
    env = environment("seed")
    env.aws.life = 12 * HOUR
    await env.reconcile(rotating("first"))
    env.now = env.issuance("first").renew - 40 * MINUTE
    env.aws.life = HOUR
    await env.reconcile(rotating("second"))
    env.now += 40 * MINUTE
    env.aws.issuer.refusal = DOWN
    await env.reconcile(rotating("first"))
    await env.reconcile(rotating("second"), SECOND)
    sooner = env.now + 10 * MINUTE
    outcomes = [await env.reconcile(rotating(name), MINUTE) for name in ("second", "first")]
    env.aws.issuer.refusal = None

    assert {read_time(it.status.next_attempt_time) for it in outcomes} == {sooner}
    assert (await env.reconcile(rotating("first"), 8 * MINUTE)).failure is None


@pytest.mark.parametrize(
    ("jump", "is_waiting"),
    [(-5 * MINUTE, True), (-DAY, True), (DAY, False)],
    ids=["back by minutes", "back by a day", "forward"],
)
async def test_clock_that_is_set_does_not_prolong_the_wait(jump: timedelta, *, is_waiting: bool) -> None:
    env = await during_outage()
    requests, moment = env.aws.issuer.requests, env.statuses["first-0001"].next_attempt_time
    env.set_clock(jump)
    env.aws.issuer.refusal = None
    second = await env.reconcile(rotating("second"), MINUTE)
    message = second.failure.error.message if second.failure else ""

    assert (f"is made at {moment}" in message) is (jump == -5 * MINUTE)
    assert env.aws.issuer.requests == requests + (not is_waiting)
    assert (await env.reconcile(rotating("second"), HOUR)).failure is None
    assert env.aws.issuer.requests == requests + 1


async def test_slow_attempt_does_not_shorten_the_wait() -> None:
    """As with an admission webhook that takes long, while there are no valid credentials."""
    env = environment("seed")
    env.aws.issuer.refusal = DOWN

    async def respond_slowly(point: str) -> None:
        if point == "before dry_run":
            env.now += 20 * SECOND

    env.watch(respond_slowly)
    failed = await env.reconcile(rotating())

    assert failed.failure
    assert failed.failure.next_attempt_time == env.now + 32 * SECOND


async def test_intent_of_another_operator_is_not_changed() -> None:
    """It gave up waiting, for example because the process that sent the token was suspended."""
    env = environment("seed")
    await env.reconcile(rotating())
    env.now, env.aws.issuer.refusal = env.issuance().renew, DOWN
    theirs = Intent(holder="another", consumes="", start=env.now, give_up_seconds=30, final_attempt=True)

    async def start_final_attempt(point: str) -> None:
        if point == "before read" and (stored := env.stored_token()).family and stored.family.intent:
            intent = structs.replace(theirs, consumes=stored.family.live)
            stored = replace(stored, family=stored.family.with_intent(intent))
            await TokenSecrets(env.secrets.server).update(rotating(), stored)

    env.watch(start_final_attempt)
    assert (await env.reconcile(rotating())).failure_reason == "RefreshOutcomeUnknown"
    family = env.stored_token().family
    assert family
    assert family.intent == structs.replace(theirs, consumes=family.live)


async def put_new_source_token(env: FakeEnvironment) -> None:
    env.secrets.put("license", data={"license_token": env.aws.issuer.sign_in()})


async def remove_intent(env: FakeEnvironment) -> None:
    stored = env.stored_token()
    assert stored.family
    await TokenSecrets(env.secrets.server).update(rotating(), replace(stored, family=stored.family.with_intent(None)))


@pytest.mark.parametrize("edit", [put_new_source_token, remove_intent])
async def test_edits_in_a_loop_do_not_send_tokens_in_a_loop(edit: Callable[[FakeEnvironment], Awaitable[None]]) -> None:
    env = environment("seed")
    await env.reconcile(rotating())
    env.now, env.aws.issuer.refusal = env.issuance().renew, DOWN
    await env.reconcile(rotating())
    requests = env.aws.issuer.requests
    for _ in range(60):
        await edit(env)
        await env.reconcile(rotating(), SECOND)

    assert env.aws.issuer.requests == requests + 6


async def test_request_that_no_longer_consumes_the_token_does_not_read_it() -> None:
    env = environment("seed")
    await env.reconcile(rotating())
    env.now, env.aws.issuer.refusal = env.issuance().renew, DOWN
    await env.reconcile(rotating())
    env.tokens.calls.clear()
    await env.reconcile(request(), 2 * SECOND)

    assert env.tokens.calls["read"] == 0


async def test_unknown_outcome_of_a_repair_is_reported_until_it_is_known() -> None:
    env = environment("seed")
    env.aws.life = 12 * HOUR
    await env.reconcile(rotating())
    key = env.issuance().keys[0]
    for is_writable in (True, True, False):
        env.secrets.put("acme", data={key: "damaged"})
        env.store.failures["write"] = [] if is_writable else [RefusedError("WriteDenied", "a policy")]
        failed = await env.reconcile(rotating(), 10 * MINUTE)
    env.aws.issuer.refusal = DOWN
    reasons, recorded = [failed.failure_reason], list[str]()
    for _ in range(10):
        outcome = await env.reconcile(rotating(), MINUTE)
        assert outcome.failure
        assert outcome.failure.next_attempt_time > env.now
        reasons.append(outcome.failure_reason)
        recorded += [event.reason for event in outcome.reconciled.events]

    assert set(reasons) == {"WriteDenied", "RefreshOutcomeUnknown"}
    assert recorded == ["RefreshOutcomeUnknown"]
