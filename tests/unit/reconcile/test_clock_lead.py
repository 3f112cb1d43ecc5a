"""The clock was ahead while credentials were issued whose lifetime the issuer states in seconds."""

from datetime import datetime, timedelta

import pytest

from tests.support.dependencies import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    REFRESH,
    SECOND,
    FakeEnvironment,
    environment,
    request,
)

REQUEST = request(exchanges=[REFRESH], target={"formats": [{"token": {}}]})
RENEWED = NOW + 40 * MINUTE


async def issued_with_clock_ahead(lead: timedelta) -> FakeEnvironment:
    env = environment("seed")
    env.set_clock(lead)
    await env.reconcile(REQUEST)
    return env


def set_back(env: FakeEnvironment, step: timedelta) -> None:
    env.set_clock(-step)
    state = env.states[REQUEST.uid]
    env.states[REQUEST.uid] = state.with_clock_set(env.now, -step)


async def renewed_at(env: FakeEnvironment) -> datetime:
    """Reconcile at the times that the reconciliations request until a renewal, and return its time."""
    env.aws.issuer.consumed.clear()
    done = await env.reconcile(REQUEST)
    while not done.tried:
        assert done.reconciled.requeue_at
        env.now = max(env.now, done.reconciled.requeue_at)
        done = await env.reconcile(REQUEST)
    return env.now


def reports(env: FakeEnvironment) -> tuple[str, str | None]:
    status = env.statuses[REQUEST.uid]
    ready = status.condition("Ready")
    return ready.status if ready else "", status.expiration_time


@pytest.mark.parametrize("lead", [35 * MINUTE, HOUR, 365 * DAY])
async def test_clock_that_was_ahead_delays_no_renewal(lead: timedelta) -> None:
    env = await issued_with_clock_ahead(lead)
    env.now += 30 * MINUTE
    set_back(env, lead)
    await env.reconcile(REQUEST)

    assert reports(env) == ("True", "2026-01-02T04:04:05Z")
    assert await renewed_at(env) == RENEWED
    assert env.issuance().issued == RENEWED


async def test_clock_set_back_in_two_steps_delays_no_renewal() -> None:
    env = await issued_with_clock_ahead(10 * DAY)
    set_back(env, 4 * DAY)
    await env.reconcile(REQUEST)
    set_back(env, 6 * DAY)

    assert await renewed_at(env) == RENEWED


async def test_record_from_the_future_counts_as_issued_after_a_restart() -> None:
    env = await issued_with_clock_ahead(365 * DAY)
    env.set_clock(-365 * DAY)
    env.restart()

    assert await renewed_at(env) == RENEWED


async def test_clock_that_is_behind_for_a_while_causes_no_renewal() -> None:
    env = await issued_with_clock_ahead(timedelta())
    set_back(env, HOUR)
    during = await env.reconcile(REQUEST, after=10 * MINUTE)
    env.set_clock(HOUR)
    env.states[REQUEST.uid] = env.states[REQUEST.uid].with_clock_set(env.now, HOUR)
    after = await env.reconcile(REQUEST, after=10 * MINUTE)

    assert (during.tried, after.tried) == (False, False)
    assert reports(env) == ("True", "2026-01-02T04:04:05Z")
    assert await renewed_at(env) == RENEWED


async def test_clock_of_another_node_may_differ_slightly() -> None:
    env = await issued_with_clock_ahead(30 * SECOND)
    env.set_clock(-30 * SECOND)
    env.restart()
    await env.reconcile(REQUEST)

    assert reports(env) == ("True", "2026-01-02T04:04:35Z")
