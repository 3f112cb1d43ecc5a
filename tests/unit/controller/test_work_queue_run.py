import asyncio

import pytest

from keyturn.controller.work_queue import WorkQueue, run
from tests.support.dependencies import NOW, SECOND
from tests.support.work_queues import work_queue


class Desk:
    """Where requests are looked at: who is looked at now, and who was."""

    def __init__(self) -> None:
        self.now = NOW
        self.present: set[str] = set()
        self.most = 0
        self.seen: list[str] = []
        self.open = asyncio.Event()
        self.came = asyncio.Event()
        self.sets_back = 0

    def set_back(self) -> None:
        self.sets_back += 1

    async def run_one(self, uid: str) -> None:
        assert uid not in self.present
        self.present.add(uid)
        self.most = max(self.most, len(self.present))
        await self.open.wait()
        self.present.remove(uid)
        self.seen.append(uid)
        self.came.set()

    async def run(self, made: WorkQueue, wanted: int) -> None:
        """Run the agenda until so many were seen."""
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(run(made, self.run_one, lambda: self.now, self.set_back))
            while len(self.seen) < wanted:
                await self.came.wait()
                self.came.clear()
            task.cancel()


async def test_run_looks_at_all_that_is_due_with_so_many_workers() -> None:
    desk, made = Desk(), work_queue(*"abcdefgh", workers=3)
    asyncio.get_running_loop().call_later(0.01, desk.open.set)
    await desk.run(made, 8)

    assert (sorted(desk.seen), desk.most) == (list("abcdefgh"), 3)


async def test_run_wakes_when_somebody_comes() -> None:
    desk, made = Desk(), WorkQueue(2)
    desk.open.set()
    asyncio.get_running_loop().call_later(0.01, made.add, "a", NOW, NOW, "billing")
    await desk.run(made, 1)

    assert desk.seen == ["a"]


async def test_run_sleeps_until_the_time_has_come() -> None:
    desk, made, loop = Desk(), WorkQueue(2), asyncio.get_running_loop()
    desk.open.set()
    made.add("a", NOW + 0.05 * SECOND, NOW, "billing")
    loop.call_later(0.01, setattr, desk, "now", NOW + SECOND)
    start = loop.time()
    await desk.run(made, 1)

    assert 0.04 < loop.time() - start < 5


async def test_run_ends_with_what_a_look_raises() -> None:
    async def fail(_: str) -> None:
        raise LookupError

    with pytest.raises(ExceptionGroup) as raised:
        await run(work_queue("a"), fail, lambda: NOW, lambda: None)

    assert raised.group_contains(LookupError)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        pytest.param(-60, 1, id="set back"),
        pytest.param(-1, 0, id="kept in time"),
        pytest.param(60, 0, id="set forward"),
    ],
)
async def test_a_clock_that_is_set_back_is_told_once(seconds: int, told: int) -> None:
    desk, made, loop = Desk(), WorkQueue(2), asyncio.get_running_loop()
    desk.open.set()

    def step() -> None:
        desk.now += seconds * SECOND
        made.add("a", desk.now, NOW, "billing")

    loop.call_later(0.01, step)
    loop.call_later(0.02, made.add, "b", NOW - 120 * SECOND, NOW, "billing")
    await desk.run(made, 2)

    assert desk.sets_back == told
