"""A crash at every await of a reconciliation, and how the next process continues."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from keyturn.api.token_request import Request
from tests.support.crash import SENT, Crash, crash, die
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
    times = (SECOND, *(31 * SECOND,) * 3, *(HOUR,) * 3)
    return [(await env.reconcile(token_request, after)).failure_reason for after in times]


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

# A crash here leaves an intent whose token was not sent.
INTENDED = ("after update", "before OauthToken", "before IdentityCenterCreateToken")


async def crashes(
    scenario: Scenario, *, first: bool, action: Crash, refreshes: bool = True
) -> AsyncIterator[tuple[str, list[str], FakeEnvironment]]:
    """Crash at each await of a renewal in turn. Yields the checkpoint and the failure reasons of the next process."""
    for number in itertools.count(1):
        env = await scenario.prepare(first=first)
        env.aws.issuer.refreshes = refreshes
        point = await crash(env, scenario.token_request, number, action)
        if not point:
            return
        yield point, await run_next_process(env, scenario.token_request), env


@pytest.mark.parametrize("first", [True, False], ids=["first renewal", "later renewal"])
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
async def test_after_a_crash_token_is_live_or_outcome_unknown(scenario: Scenario, *, first: bool) -> None:
    async for point, reasons, env in crashes(scenario, first=first, action=die):
        stored_token, issuer = env.stored_token(scenario.token_secret), env.aws.issuer
        if point in SENT:
            # The response was lost with the process: one final attempt, then a person must act.
            assert (reasons[-1], issuer.reuses) == ("RefreshOutcomeUnknown", 1), point
        else:
            assert (reasons[-1], issuer.reuses, stored_token.value) == ("", 0, issuer.live), point
        if point in INTENDED:
            # The next process cannot know that the token was not sent: it waits before it sends the token.
            assert reasons[0] == "RefreshOutcomeUnknown", point
    assert point == "after write"


@pytest.mark.parametrize("first", [True, False], ids=["first renewal", "later renewal"])
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
async def test_after_a_cancellation_token_is_live(scenario: Scenario, *, first: bool) -> None:
    async for point, reasons, env in crashes(scenario, first=first, action=cancel):
        stored_token, issuer = env.stored_token(scenario.token_secret), env.aws.issuer
        # A request about to be sent is sent, and the new token saved. Only an intent may remain, which is waited out.
        assert (reasons[-1], issuer.reuses, stored_token.value) == ("", 0, issuer.live), point
    assert point == "after write"


async def test_code_without_refresh_token_is_consumed_once() -> None:
    async for point, reasons, env in crashes(SCENARIOS["code"], first=True, action=die, refreshes=False):
        issuer = env.aws.issuer
        # The credentials have expired by now: in every case a person must provide a new code.
        assert reasons[-1] == ("RefreshOutcomeUnknown" if point in SENT else "SourceConsumed"), point
        assert (issuer.consumed.count("seed"), issuer.reuses) == (1, int(point in SENT)), point
    assert point == "after write"
