"""A crash at every await of a reconciliation, and how the next process continues."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from keyturn.api.token_request import Request
from tests.support.crash import SENT, crash, die
from tests.support.dependencies import (
    HOUR,
    MINUTE,
    SECOND,
    FakeEnvironment,
    environment,
    rotating,
    single_use,
    with_code,
)

DUE = 45 * MINUTE


def cancel(task: asyncio.Task[object]) -> None:
    task.cancel()


async def run_next_process(env: FakeEnvironment, token_request: Request) -> list[str]:
    """Run the next process for some hours. Returns the failure reason of each reconciliation, or ""."""
    env.restart()
    reasons = []
    for after in (SECOND, *(31 * SECOND,) * 3, *(HOUR,) * 3):
        outcome = await env.reconcile(token_request, after)
        reasons.append(outcome.failure.error.reason if outcome.failure else "")
    return reasons


@dataclass(frozen=True, slots=True)
class Scenario:
    """A request that consumes a token, and the environment to start in."""

    token_request: Request
    token_secret: str
    start: Callable[[], FakeEnvironment]

    async def prepare(self, *, first: bool) -> FakeEnvironment:
        env = self.start()
        if not first:
            await env.reconcile(self.token_request)
            env.now += DUE
        return env


SCENARIOS = {
    "refresh token": Scenario(rotating(), "license-keyturn", lambda: environment("seed")),
    "code": Scenario(single_use(), "sign-in-keyturn", with_code),
}
# Every await of a first renewal and of a later one; test_cases_cover_every_await checks that none is missing.
AWAITS = [
    pytest.param(scenario, first, number, id=f"{name}: {'first' if first else 'later'} renewal, await {number}")
    for name, scenario in SCENARIOS.items()
    for first in (True, False)
    for number in range(1, 22)
]


@pytest.mark.parametrize(("scenario", "first", "number"), AWAITS)
async def test_after_a_crash_token_is_live_or_outcome_unknown(scenario: Scenario, number: int, *, first: bool) -> None:
    env = await scenario.prepare(first=first)
    point = await crash(env, scenario.token_request, number, die)
    reasons = await run_next_process(env, scenario.token_request)
    stored_token, issuer = env.stored_token(scenario.token_secret), env.aws.issuer

    if point in SENT:
        # The response was lost with the process: one final attempt, then a person must act.
        assert reasons[-1] == "RefreshOutcomeUnknown"
        assert issuer.reuses == 1
    else:
        assert reasons[-1] == ""
        assert (stored_token.value, issuer.reuses) == (issuer.live, 0)


@pytest.mark.parametrize(("scenario", "first", "number"), AWAITS)
async def test_after_a_cancellation_token_is_live(scenario: Scenario, number: int, *, first: bool) -> None:
    env = await scenario.prepare(first=first)
    await crash(env, scenario.token_request, number, cancel)
    reasons = await run_next_process(env, scenario.token_request)
    stored_token, issuer = env.stored_token(scenario.token_secret), env.aws.issuer

    # A request about to be sent is sent, and the new token saved. Only an intent may remain, which is waited out.
    assert reasons[-1] == ""
    assert (stored_token.value, issuer.reuses) == (issuer.live, 0)


@pytest.mark.parametrize("number", range(1, 22))
async def test_code_without_refresh_token_is_consumed_once(number: int) -> None:
    env, token_request = with_code(), single_use()
    env.aws.issuer.refreshes = False
    point = await crash(env, token_request, number, die)
    reasons = await run_next_process(env, token_request)
    issuer = env.aws.issuer

    # The credentials have expired by now: in every case a person must provide a new code.
    assert reasons[-1] == ("RefreshOutcomeUnknown" if point in SENT else "SourceConsumed")
    assert (issuer.consumed.count("seed"), issuer.reuses) == (1, int(point in SENT))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
async def test_cases_cover_every_await(scenario: Scenario, *, first: bool) -> None:
    places = [
        await crash(await scenario.prepare(first=first), scenario.token_request, number, die) for number in range(1, 22)
    ]

    assert [place for place in places if place][-1] == "after write"
    assert places[-1] == ""
