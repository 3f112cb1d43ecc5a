"""A crash at every await of the spine, and what the next process makes of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from keyturn.api.token_request import Request
from tests.support.dependencies import HOUR, MINUTE, SECOND, Outside, deps, once, rotating, with_code
from tests.support.rotation import nothing

DUE = 45 * MINUTE


class Death(BaseException):
    """The process is gone: nothing of it runs any more."""


Crash = Callable[[asyncio.Task[object]], None]


def die(_: asyncio.Task[object]) -> None:
    raise Death


def be_cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()


async def crash(outside: Outside, wanted: Request, number: int, how: Crash) -> str:
    """Look at a request, and crash at the given await; returns where that was, or nothing if it is not reached."""
    reached: list[str] = []
    crashed: list[str] = []
    task: asyncio.Task[object]

    async def checkpoint(where: str) -> None:
        await asyncio.sleep(0)
        if crashed and how is die:
            raise Death
        reached.append(where)
        if len(reached) == number:
            crashed.append(where)
            how(task)

    outside.watch(checkpoint)
    task = asyncio.create_task(outside.reconcile(wanted))
    await asyncio.wait({task})
    task.cancelled() or task.exception()
    outside.watch(nothing)
    return crashed[0] if crashed else ""


async def run_on(outside: Outside, wanted: Request) -> list[str]:
    """Let the next process work for some hours; returns the reasons of its failures, the last one last."""
    outside.restart()
    reasons = []
    for after in (SECOND, *(31 * SECOND,) * 3, *(HOUR,) * 3):
        outcome = await outside.reconcile(wanted, after)
        reasons.append(outcome.failure.error.reason if outcome.failure else "")
    return reasons


@dataclass(frozen=True, slots=True)
class Story:
    """A request that uses something up, and what it starts from."""

    wanted: Request
    place: str
    start: Callable[[], Outside]

    async def begun(self, *, first: bool) -> Outside:
        outside = self.start()
        if not first:
            await outside.reconcile(self.wanted)
            outside.now += DUE
        return outside


STORIES = {
    "refresh token": Story(rotating(), "license-keyturn", lambda: deps("seed")),
    "code": Story(once(), "sign-in-keyturn", with_code),
}
# Every await of a first renewal and of a later one; test_no_await_is_left_out sees to it that it is all of them.
AWAITS = [
    pytest.param(story, first, number, id=f"{name}: {'first' if first else 'later'} renewal, await {number}")
    for name, story in STORIES.items()
    for first in (True, False)
    for number in range(1, 22)
]
SENT = ("after OauthToken", "after IdentityCenterCreateToken", "before save")


@pytest.mark.parametrize(("story", "first", "number"), AWAITS)
async def test_after_a_death_the_token_is_live_or_in_doubt(story: Story, number: int, *, first: bool) -> None:
    outside = await story.begun(first=first)
    where = await crash(outside, story.wanted, number, die)
    reasons = await run_on(outside, story.wanted)
    kept, issuer = outside.tokens.kept["billing", story.place], outside.aws.issuer

    if where in SENT:
        # The answer died with the process: one careful try, and then a person must act.
        assert reasons[-1] == "RefreshOutcomeUnknown"
        assert issuer.reuses == 1
    else:
        assert reasons[-1] == ""
        assert (kept.value, issuer.reuses) == (issuer.live, 0)


@pytest.mark.parametrize(("story", "first", "number"), AWAITS)
async def test_after_a_cancellation_nothing_is_lost_and_nothing_in_doubt(
    story: Story, number: int, *, first: bool
) -> None:
    outside = await story.begun(first=first)
    await crash(outside, story.wanted, number, be_cancelled)
    reasons = await run_on(outside, story.wanted)
    kept, issuer = outside.tokens.kept["billing", story.place], outside.aws.issuer

    # What was about to be sent goes out and is saved; only an intent before it may be left, and is waited out.
    assert reasons[-1] == ""
    assert (kept.value, issuer.reuses) == (issuer.live, 0)


@pytest.mark.parametrize("number", range(1, 22))
async def test_a_code_that_gives_no_refresh_token_is_issued_once_or_never(number: int) -> None:
    outside, wanted = with_code(), once()
    outside.aws.issuer.refreshes = False
    where = await crash(outside, wanted, number, die)
    reasons = await run_on(outside, wanted)
    issuer = outside.aws.issuer

    # By now what was issued has expired: whatever became of it, a person must give a new code.
    assert reasons[-1] == ("RefreshOutcomeUnknown" if where in SENT else "SourceConsumed")
    assert (issuer.consumed.count("seed"), issuer.reuses) == (1, int(where in SENT))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_no_await_is_left_out(story: Story, *, first: bool) -> None:
    places = [await crash(await story.begun(first=first), story.wanted, number, die) for number in range(1, 22)]

    assert [place for place in places if place][-1] == "after write"
    assert places[-1] == ""
