from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import BeingDeletedError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.issuance import ADOPTABLE_BY
from keyturn.core.state import ReconcileState
from tests.support.dependencies import HOUR, MINUTE, NOW, SECOND, Outside, deps, issued, request, signed

RENEWS_AFTER = 40 * MINUTE
AWAY = UnavailableError("Unreachable", "STS did not answer")


def no_change(_: Outside) -> None:
    """The outside stays as it is."""


async def test_a_failure_keeps_the_data_and_tells_the_next_try() -> None:
    outside = await issued()
    before = outside.secrets.get("acme")
    outside.aws.failures = [AWAY]
    outside.rand = 0.5
    outcome = await outside.reconcile(request(), after=RENEWS_AFTER)

    assert outside.secrets.get("acme") == before
    assert outcome.failure
    assert (outcome.failure.failed_attempts, outcome.failure.next_attempt_time) == (1, outside.now + 2 * SECOND)


async def test_it_is_held_back_until_the_time_has_come() -> None:
    outside = await issued()
    outside.aws.failures = [AWAY]
    outside.rand = 0.9
    await outside.reconcile(request(), after=RENEWS_AFTER)
    early = await outside.reconcile(request(), after=2 * SECOND)
    late = await outside.reconcile(request(), after=2 * SECOND)

    assert (early.failure is not None, early.tried, early.reason) == (True, False, "")
    assert (late.failure, late.reason) == (None, "Due")


async def test_to_hold_ourselves_back_is_no_failure_more() -> None:
    outside = await issued()
    ours = ThrottledError("License Manager throttles us", retry_after=30 * SECOND, nothing_sent=True)
    outside.aws.failures = [ThrottledError("License Manager: throttled"), ours, ours]
    counts = []
    for _ in range(3):
        outcome = await outside.reconcile(request(), after=RENEWS_AFTER)
        assert outcome.failure
        counts.append(outcome.failure.failed_attempts)

    assert counts == [1, 1, 1]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        pytest.param(lambda o: o.secrets.put("license", data={"license_token": "new"}), request(), id="source"),
        pytest.param(lambda o: o.secrets.delete("acme"), request(), id="the target is gone"),
        pytest.param(no_change, replace(request(), generation=2), id="spec"),
        pytest.param(no_change, replace(request(), renew_requested="now"), id="renewal asked for"),
    ],
)
async def test_a_change_ends_the_wait(change: Callable[[Outside], object], wanted: Request) -> None:
    outside = await issued()
    outside.aws.failures = [RefusedError("SourceInvalid", "no")]
    await outside.reconcile(request(), after=RENEWS_AFTER)
    change(outside)

    # The first look is within the least interval: changes in a loop must not become calls in a loop.
    assert (await outside.reconcile(wanted, after=9 * SECOND)).tried is False
    assert (await outside.reconcile(wanted, after=SECOND)).failure is None


async def test_who_touches_the_target_does_not_end_the_wait() -> None:
    outside = await issued()
    outside.aws.failures = [RefusedError("SourceInvalid", "no")]
    await outside.reconcile(request(), after=RENEWS_AFTER)
    outside.secrets.put("acme", data={"note": "x"})
    outcome = await outside.reconcile(request(), after=SECOND)

    assert (outcome.failure is not None, outcome.tried) == (True, False)


async def test_without_a_change_a_refused_source_is_asked_about_once() -> None:
    outside = await issued()
    outside.aws.failures = [RefusedError("SourceInvalid", "no")]
    await outside.reconcile(request(), after=RENEWS_AFTER)
    for _ in range(29):
        await outside.reconcile(request(), after=MINUTE)

    assert outside.exchanges == 1


async def test_failures_in_a_row_are_counted_and_a_success_forgets_them() -> None:
    outside = await issued()
    outside.aws.failures = [AWAY, ThrottledError("slow", retry_after=MINUTE)]
    outside.now = NOW + RENEWS_AFTER
    told = [await outside.reconcile(request(), after=n * MINUTE) for n in (0, 1, 2)]

    assert [outcome.failure and outcome.failure.failed_attempts for outcome in told] == [1, 2, None]


async def test_a_leaving_request_is_no_failure() -> None:
    outside = await issued()
    outside.secrets.failures["write"] = BeingDeletedError("gone")

    with pytest.raises(BeingDeletedError):
        await outside.reconcile(request(), after=RENEWS_AFTER)

    assert outside.states["acme-0001"].failure is None


async def test_a_source_that_has_expired_is_refused_without_an_exchange() -> None:
    outside = deps(signed(NOW - HOUR, NOW))
    outcome = await outside.reconcile(request())

    assert outcome.failure
    assert (outcome.failure.error.reason, outside.exchanges) == ("SourceExpired", 0)


@pytest.mark.parametrize("life", [timedelta(), -HOUR])
async def test_an_answer_that_has_expired_is_not_written(life: timedelta) -> None:
    outside = deps()
    outside.aws.life = life
    outcome = await outside.reconcile(request())

    assert outcome.failure
    assert (outcome.failure.error.reason, outside.secrets.names()) == ("Unavailable", {"license"})


async def test_heals_are_spaced_further_and_further() -> None:
    outside = await issued()
    repaired = []
    for _ in range(200):
        outside.secrets.put("acme", data={"AWS_REGION": "edited"})
        outside.aws.life = 100 * HOUR
        if (await outside.reconcile(request(), after=MINUTE)).reason:
            repaired.append(outside.now)
    gaps = [(later - earlier) // MINUTE for earlier, later in pairwise(repaired)]

    assert gaps == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30][: len(gaps)]
    assert len(gaps) >= 8


async def test_a_lifetime_of_seconds_makes_no_loop() -> None:
    outside = deps()
    outside.aws.life = SECOND
    for _ in range(30):
        await outside.reconcile(request(), after=SECOND)

    assert outside.exchanges == 2 * 3


async def test_consent_ends_the_wait_for_a_foreign_secret() -> None:
    outside = deps()
    outside.secrets.put("acme", data={"theirs": "x"})
    await outside.reconcile(request())
    outside.secrets.put("acme", annotations={ADOPTABLE_BY: "acme"})
    outcome = await outside.reconcile(request(), after=MINUTE)

    assert (outcome.failure, outside.secrets.get("acme").owners) == (None, frozenset())


async def test_metrics_count_renewals_and_failures() -> None:
    outside = deps()
    outside.aws.failures = [AWAY]
    await outside.reconcile(request())
    await outside.reconcile(request(), after=MINUTE)
    count = outside.metrics.registry.get_sample_value

    assert count("keyturn_renewals_total", {"result": "failure", "reason": "Unreachable"}) == 1
    assert count("keyturn_renewals_total", {"result": "success", "reason": "SecretMissing"}) == 1


async def test_after_a_restart_a_setback_waits_for_its_time() -> None:
    outside = await issued()
    outside.aws.failures = [RefusedError("SourceInvalid", "no")]
    outcome = await outside.reconcile(request(), after=RENEWS_AFTER)
    assert outcome.failure
    outside.states["acme-0001"] = ReconcileState(failure=replace(outcome.failure, inputs=None))
    await outside.reconcile(request(), after=MINUTE)

    assert outside.exchanges == 1


async def test_while_writes_fail_one_exchange_is_in_vain() -> None:
    outside = await issued()
    no = UnavailableError("Unavailable", "the API server answered HTTP 503")
    outside.secrets.failures = {"write": no, "rehearse": no}
    for _ in range(3):
        await outside.reconcile(request(), after=RENEWS_AFTER)
    assert len(outside.aws.calls) == 2
    outside.secrets.failures = {}

    outcome = await outside.reconcile(request(), after=RENEWS_AFTER)
    assert (outcome.reason, outcome.failure, len(outside.aws.calls)) == ("Due", None, 4)


async def test_a_clock_that_was_set_back_holds_nothing_back() -> None:
    outside = await issued()
    outside.aws.failures = [RefusedError("SourceInvalid", "no"), RefusedError("SourceInvalid", "no")]
    await outside.reconcile(request(), after=RENEWS_AFTER)
    outside.set_clock(-MINUTE)
    again = await outside.reconcile(replace(request(), renew_requested="now"))
    assert again.failure
    assert again.failure.next_attempt_time == outside.now + 30 * MINUTE

    outside.set_clock(-HOUR)
    moved = await outside.reconcile(request(target={"formats": [{"env": {}}]}))
    assert (moved.reason, moved.failure) == ("SpecChanged", None)
