"""The wait before a token is sent for the last time, while its issuer may be down."""

from dataclasses import replace

import pytest

from keyturn.core.errors import KeyturnError, RefusedError, UnavailableError
from tests.support.dependencies import HOUR, MINUTE, SECOND, FakeEnvironment, environment, rotating

DOWN = UnavailableError("Unavailable", "HTTP 502", outcome_unknown=True)
READS = ["read_target", "read_source", "read"]
ERRORS = [
    UnavailableError("Unreachable", "the API server did not respond"),
    RefusedError("SourceForbidden", "HTTP 403"),
]


async def during_outage() -> FakeEnvironment:
    """Two requests with the same source; the first one received 502. The credentials of the second are damaged."""
    env = environment("seed")
    await env.reconcile(rotating("first"))
    env.aws.life = 12 * HOUR
    await env.reconcile(rotating("second"))
    env.secrets.put("second", data={env.issuance("second").keys[0]: "damaged"})
    env.now = env.issuance("first").renew
    env.aws.issuer.refusal = DOWN
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

    assert waiting.failure
    assert (waiting.failure_reason, waiting.failure.next_attempt_time) == ("RefreshOutcomeUnknown", env.now + HOUR)
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

    assert waiting.failure
    assert (waiting.failure_reason, waiting.failure.next_attempt_time) == ("RefreshOutcomeUnknown", env.now + HOUR)
    assert env.aws.issuer.requests == requests
