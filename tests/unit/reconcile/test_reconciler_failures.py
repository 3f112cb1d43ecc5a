from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import BeingDeletedError, RefusedError, ThrottledError, TransientRefusalError, UnavailableError
from keyturn.core.issuance import ADOPTABLE_BY
from tests.support.dependencies import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    FakeEnvironment,
    environment,
    issued,
    request,
    rotating,
    signed,
)

RENEWS_AFTER = 40 * MINUTE
UNREACHABLE = UnavailableError("Unreachable", "no response from STS")


async def test_failure_keeps_the_data_and_schedules_the_next_attempt() -> None:
    env = await issued()
    before = env.secrets.meta("acme")
    env.aws.failures = [UNREACHABLE]
    env.rand = 0.5
    outcome = await env.reconcile(request(), after=RENEWS_AFTER)

    assert env.secrets.meta("acme") == before
    assert outcome.failure
    assert (outcome.failure.failed_attempts, outcome.failure.next_attempt_time) == (1, env.now + 2 * SECOND)


async def test_failure_names_the_exchange() -> None:
    env = await issued()
    env.aws.failures = [UNREACHABLE]
    first = await env.reconcile(request(), after=RENEWS_AFTER)
    env.secrets.delete("license")
    second = await env.reconcile(request(), after=HOUR)

    assert first.status.last_error
    assert first.status.last_error.field == "spec.exchanges[0].licenseManagerGetAccessToken"
    assert second.status.last_error
    assert (second.status.last_error.reason, second.status.last_error.field) == ("SourceNotFound", None)


async def test_failed_request_is_retried_at_its_next_attempt_time() -> None:
    env = await issued()
    env.aws.failures = [UNREACHABLE]
    env.rand = 0.9
    await env.reconcile(request(), after=RENEWS_AFTER)
    early = await env.reconcile(request(), after=2 * SECOND)
    late = await env.reconcile(request(), after=2 * SECOND)

    assert (early.failure is not None, early.tried, early.reason) == (True, False, "")
    assert (late.failure, late.reason) == (None, "Due")


async def test_own_rate_limit_is_not_a_failure() -> None:
    env = await issued()
    env.aws.failures = [ThrottledError("rate limited", retry_after=30 * SECOND, nothing_sent=True)]
    before = env.statuses[request().uid]
    outcome = await env.reconcile(request(), after=RENEWS_AFTER)

    assert (outcome.failure, outcome.tried, outcome.reconciled.events) == (None, False, ())
    assert outcome.status == before
    assert outcome.reconciled.requeue_at == env.now + 30 * SECOND
    assert (await env.reconcile(request(), after=30 * SECOND)).reason == "Due"


async def test_own_rate_limit_leaves_an_earlier_failure_as_it_is() -> None:
    env = await issued()
    local = ThrottledError("rate limited", retry_after=30 * SECOND, nothing_sent=True)
    env.aws.failures = [ThrottledError("STS: throttled"), local, local]
    outcomes = [await env.reconcile(request(), after=RENEWS_AFTER) for _ in range(3)]

    assert {outcome.failure and outcome.failure.failed_attempts for outcome in outcomes} == {1}
    assert {outcome.failure and outcome.failure.error.message for outcome in outcomes} == {"STS: throttled"}


async def test_attempt_that_an_own_limit_delays_is_reported_as_due() -> None:
    env = await issued()
    local = ThrottledError("rate limited", retry_after=30 * SECOND, nothing_sent=True)
    env.aws.failures = [ThrottledError("STS: throttled"), local]
    await env.reconcile(request(), after=RENEWS_AFTER)
    delayed = (await env.reconcile(request(), after=HOUR)).status.condition("Renewed")

    assert delayed
    assert delayed.message == "STS: throttled; the next attempt is due"


async def test_long_own_limit_is_checked_each_minute() -> None:
    env = await issued()
    env.aws.failures = [ThrottledError("rate limited", retry_after=HOUR, nothing_sent=True)]
    outcome = await env.reconcile(request(), after=RENEWS_AFTER)

    assert outcome.reconciled.requeue_at == env.now + MINUTE


async def test_expiry_during_a_wait_for_the_own_limit_is_reported() -> None:
    env = await issued()
    expires = env.issuance().expires
    env.now = expires - 5 * SECOND
    env.aws.failures = [ThrottledError("rate limited", retry_after=HOUR, nothing_sent=True)] * 2
    before = await env.reconcile(request())
    after = await env.reconcile(request(), after=5 * SECOND)
    ready = after.status.condition("Ready")

    assert (before.reconciled.requeue_at, after.reconciled.requeue_at) == (expires, expires + MINUTE)
    assert ready
    assert ready.reason == "Expired"


async def test_own_limit_at_a_later_exchange_waits_the_minimum_interval() -> None:
    env = await issued()
    env.aws.busy["AssumeRoleWithWebIdentity"] = [SECOND]
    outcome = await env.reconcile(request(), after=RENEWS_AFTER)

    # The exchange before it has been made, and is made again.
    assert (outcome.failure, outcome.reconciled.requeue_at) == (None, env.now + 10 * SECOND)


@pytest.mark.parametrize(
    ("change", "token_request"),
    [
        pytest.param(lambda env: env.secrets.put("license", data={"license_token": "new"}), request(), id="source"),
        pytest.param(lambda env: env.secrets.delete("acme"), request(), id="the target was deleted"),
        pytest.param(lambda _: None, replace(request(), generation=2), id="spec"),
        pytest.param(lambda _: None, replace(request(), renew_requested="now"), id="a renewal was requested"),
    ],
)
async def test_change_ends_the_retry_delay(change: Callable[[FakeEnvironment], object], token_request: Request) -> None:
    env = await issued()
    env.aws.failures = [RefusedError("SourceInvalid", "no")]
    await env.reconcile(request(), after=RENEWS_AFTER)
    change(env)

    # The first reconciliation is within the minimum interval: changes in a loop must not cause calls in a loop.
    assert (await env.reconcile(token_request, after=9 * SECOND)).tried is False
    assert (await env.reconcile(token_request, after=SECOND)).failure is None


async def test_edit_of_the_target_does_not_end_the_retry_delay() -> None:
    env = await issued()
    env.aws.failures = [RefusedError("SourceInvalid", "no")]
    await env.reconcile(request(), after=RENEWS_AFTER)
    env.secrets.put("acme", data={"note": "x"})
    outcome = await env.reconcile(request(), after=SECOND)

    assert (outcome.failure is not None, outcome.tried) == (True, False)


async def test_unchanged_refused_source_is_not_sent_again() -> None:
    env = environment()
    env.aws.failures = [RefusedError("SourceInvalid", "no")]
    await env.reconcile(request())
    for _ in range(29):
        await env.reconcile(request(), after=MINUTE)

    assert env.exchanges == 1


async def test_source_that_worked_before_is_sent_again_within_minutes() -> None:
    env = await issued()
    env.aws.failures = [RefusedError("SourceInvalid", "no") for _ in range(20)]
    await env.reconcile(request(), after=RENEWS_AFTER)
    for _ in range(60):
        await env.reconcile(request(), after=MINUTE)
    number = env.exchanges
    env.secrets.put("license", data={"license_token": "another"})
    await env.reconcile(request(), after=MINUTE)
    for _ in range(29):
        await env.reconcile(request(), after=MINUTE)

    assert 12 <= number <= 20
    assert env.exchanges == number + 1


async def test_refusal_after_consuming_a_token_is_not_repeated_sooner() -> None:
    env = environment("seed")
    await env.reconcile(rotating())
    env.aws.failures = [RefusedError("AccessDenied", "no") for _ in range(20)]
    outcome = await env.reconcile(rotating(), after=58 * MINUTE)

    assert outcome.failure
    assert outcome.failure.next_attempt_time == env.now + 5 * MINUTE
    assert len(env.aws.issuer.consumed) == 2


async def test_refusal_before_consuming_a_token_is_repeated_sooner() -> None:
    env = environment("seed")
    await env.reconcile(rotating())
    env.store.failures = {"dry_run": [RefusedError("TargetConflict", "no")] * 3}
    env.states[rotating().uid] = replace(env.states[rotating().uid], unwritten=True)
    outcome = await env.reconcile(rotating(), after=58 * MINUTE)

    assert outcome.failure
    assert outcome.failure.next_attempt_time == env.now + 30 * SECOND
    assert len(env.aws.issuer.consumed) == 1


async def test_refusal_that_usually_passes_is_counted_as_unavailable() -> None:
    env = await issued()
    env.aws.failures = [TransientRefusalError("SourceInvalid", "no") for _ in range(20)]
    outcome = await env.reconcile(request(), after=RENEWS_AFTER)
    count = env.metrics.registry.get_sample_value

    assert outcome.failure_reason == "Unavailable"
    assert outcome.status.condition("Stalled") is None
    assert count("keyturn_renewals_total", {"result": "failure", "reason": "Unavailable"}) == 1
    assert count("keyturn_renewals_total", {"result": "failure", "reason": "SourceInvalid"}) is None


async def test_consecutive_failures_are_counted_until_a_success() -> None:
    env = await issued()
    env.aws.failures = [UNREACHABLE, ThrottledError("slow", retry_after=MINUTE)]
    env.now = NOW + RENEWS_AFTER
    outcomes = [await env.reconcile(request(), after=n * MINUTE) for n in (0, 1, 2)]

    assert [outcome.failure and outcome.failure.failed_attempts for outcome in outcomes] == [1, 2, None]


async def test_deletion_of_the_request_is_not_a_failure() -> None:
    env = await issued()
    env.store.failures["write"] = [BeingDeletedError("the TokenRequest was deleted")]

    with pytest.raises(BeingDeletedError):
        await env.reconcile(request(), after=RENEWS_AFTER)

    assert env.states["acme-0001"].failure is None


async def test_expired_source_is_refused_without_an_exchange() -> None:
    env = environment(signed(NOW - HOUR, NOW))
    outcome = await env.reconcile(request())

    assert (outcome.failure_reason, env.exchanges) == ("SourceExpired", 0)


@pytest.mark.parametrize("life", [timedelta(), -HOUR])
async def test_credentials_that_have_already_expired_are_not_written(life: timedelta) -> None:
    env = environment()
    env.aws.life = life
    outcome = await env.reconcile(request())

    assert (outcome.failure_reason, env.secrets.names()) == ("Unavailable", {"license"})


async def test_repeated_repairs_back_off() -> None:
    env = await issued()
    repaired = []
    for _ in range(200):
        env.secrets.put("acme", data={"AWS_REGION": "edited"})
        env.aws.life = 100 * HOUR
        if (await env.reconcile(request(), after=MINUTE)).reason:
            repaired.append(env.now)
    gaps = [(later - earlier) // MINUTE for earlier, later in pairwise(repaired)]

    assert gaps == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30][: len(gaps)]
    assert len(gaps) >= 8


async def test_lifetime_of_a_second_does_not_cause_a_loop() -> None:
    env = environment()
    env.aws.life = SECOND
    for _ in range(30):
        await env.reconcile(request(), after=SECOND)

    assert env.exchanges == 2 * 3


async def test_adoption_annotation_ends_the_retry_delay() -> None:
    env = environment()
    env.secrets.put("acme", data={"theirs": "x"})
    await env.reconcile(request())
    env.secrets.put("acme", annotations={ADOPTABLE_BY: "acme"})
    outcome = await env.reconcile(request(), after=MINUTE)

    assert (outcome.failure, env.secrets.meta("acme").owner_references) == (None, ())


async def test_failing_writes_waste_only_one_exchange() -> None:
    env = await issued()
    write_error = UnavailableError("Unavailable", "the API server returned HTTP 503")
    env.store.failures = {"write": [write_error], "dry_run": [write_error] * 3}
    for _ in range(3):
        await env.reconcile(request(), after=RENEWS_AFTER)
    assert len(env.aws.calls) == 2
    env.store.failures = {}

    outcome = await env.reconcile(request(), after=RENEWS_AFTER)
    assert (outcome.reason, outcome.failure, len(env.aws.calls)) == ("Due", None, 4)


async def test_clock_that_was_set_back_does_not_delay_attempts() -> None:
    env = await issued()
    env.aws.failures = [RefusedError("SourceInvalid", "no"), RefusedError("SourceInvalid", "no")]
    await env.reconcile(request(), after=RENEWS_AFTER)
    env.set_clock(-MINUTE)
    second = await env.reconcile(replace(request(), renew_requested="now"))
    assert second.failure
    assert second.failure.next_attempt_time == env.now + 5 * MINUTE

    env.set_clock(-HOUR)
    third = await env.reconcile(request(target={"formats": [{"env": {}}]}))
    assert (third.reason, third.failure) == ("SpecChanged", None)
