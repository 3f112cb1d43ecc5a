import asyncio
from datetime import datetime, timedelta

import pytest

from keyturn.controller.work_queue import WorkQueue, run
from tests.support.dependencies import NOW, SECOND
from tests.support.virtual_time import VirtualTime
from tests.support.work_queues import work_queue


class Worker:
    """Records which requests are in progress and which are done."""

    def __init__(self) -> None:
        self.now = NOW
        self.in_progress: set[str] = set()
        self.max_in_progress = 0
        self.done: list[str] = []
        self.three_in_progress = asyncio.Event()
        self.open = asyncio.Event()
        self.finished = asyncio.Event()
        self.steps: list[timedelta] = []

    def on_clock_set(self, step: timedelta) -> None:
        self.steps.append(step)

    async def run_one(self, uid: str) -> None:
        assert uid not in self.in_progress
        self.in_progress.add(uid)
        self.max_in_progress = max(self.max_in_progress, len(self.in_progress))
        if len(self.in_progress) == 3:
            self.three_in_progress.set()
        await self.open.wait()
        self.in_progress.remove(uid)
        self.done.append(uid)
        self.finished.set()

    async def run(self, queue: WorkQueue, number: int) -> None:
        """Run the queue until this number of reconciliations is done."""
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(run(queue, self.run_one, lambda: self.now, self.on_clock_set))
            while len(self.done) < number:
                await self.finished.wait()
                self.finished.clear()
            task.cancel()


async def test_run_reconciles_due_requests_with_all_workers() -> None:
    worker, queue = Worker(), work_queue(*"abcdefgh", workers=3)
    running = asyncio.create_task(worker.run(queue, 8))
    await asyncio.wait_for(worker.three_in_progress.wait(), 5)
    await asyncio.sleep(0.01)
    worker.open.set()
    await running

    assert (sorted(worker.done), worker.max_in_progress) == (list("abcdefgh"), 3)


async def test_run_wakes_for_an_added_request() -> None:
    worker, queue = Worker(), WorkQueue(2)
    worker.open.set()
    asyncio.get_running_loop().call_later(0.01, queue.add, "a", NOW, NOW, "billing")
    await worker.run(queue, 1)

    assert worker.done == ["a"]


async def test_run_sleeps_until_a_request_is_due() -> None:
    worker, queue, loop = Worker(), WorkQueue(2), asyncio.get_running_loop()
    worker.open.set()
    queue.add("a", NOW + 0.05 * SECOND, NOW, "billing")
    loop.call_later(0.01, setattr, worker, "now", NOW + SECOND)
    start = loop.time()
    await worker.run(queue, 1)

    assert 0.04 < loop.time() - start < 5


async def test_run_raises_the_error_of_a_reconciliation() -> None:
    async def fail(_: str) -> None:
        raise LookupError

    with pytest.raises(ExceptionGroup) as raised:
        await run(work_queue("a"), fail, lambda: NOW, lambda _: None)

    assert raised.group_contains(LookupError)


@pytest.mark.parametrize(
    ("seconds", "reported"),
    [
        pytest.param(-60, [-60], id="set back"),
        pytest.param(-1, [], id="NTP correction"),
        pytest.param(60, [60], id="set forward"),
    ],
)
async def test_clock_that_is_set_is_reported_once(seconds: int, reported: list[int]) -> None:
    worker, queue, loop = Worker(), WorkQueue(2), asyncio.get_running_loop()
    worker.open.set()

    def step() -> None:
        worker.now += seconds * SECOND
        queue.add("a", worker.now, NOW, "billing")

    loop.call_later(0.01, step)
    loop.call_later(0.02, queue.add, "b", NOW - 120 * SECOND, NOW, "billing")
    await worker.run(queue, 2)

    assert [round(step.total_seconds()) for step in worker.steps] == reported


@pytest.mark.parametrize(
    ("pauses", "seconds_late"),
    [
        # After 110 s, they would count as short again.
        pytest.param([110] * 5, [9, 9, 0, 0, 0], id="remembered longer"),
        pytest.param([110, 110, 13 * 3600, 110, 110], [9, 9, 0, 9, 9], id="forgotten after 12 hours"),
        pytest.param([2 * 3600] * 10, [9] * 10, id="never remembered for more than 100 minutes"),
    ],
)
def test_namespaces_that_become_slow_again_are_remembered_longer(pauses: list[int], seconds_late: list[int]) -> None:
    queue, late, added_at = WorkQueue(4), list[int](), 0.0

    def now() -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())

    async def reconcile(uid: str) -> None:
        if uid == "short":
            late.append(round(asyncio.get_running_loop().time() - added_at))
        else:
            await asyncio.sleep(10)

    async def simulate() -> None:
        nonlocal added_at
        running = asyncio.ensure_future(run(queue, reconcile, now, lambda _: None))
        for pause in pauses:
            for number in range(20):
                queue.add(str(number), now(), None, f"slow-{number}")
            await asyncio.sleep(1)
            added_at = asyncio.get_running_loop().time()
            queue.add("short", now(), None, "short")
            await asyncio.sleep(pause - 1)
        running.cancel()

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        runner.run(simulate())

    assert late == seconds_late


def test_slow_namespaces_however_many_delay_no_short_one() -> None:
    queue, ends = WorkQueue(4), 300.0
    late: list[float] = []

    def now() -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())

    async def reconcile(uid: str) -> None:
        if uid != "short":
            await asyncio.sleep(10)
            queue.add(uid, now(), None, f"of {uid}")
            return
        started = asyncio.get_running_loop().time()
        await asyncio.sleep(0.1)
        # It is due again after 20 s.
        late.append(round(started - 20 * len(late), 1))
        queue.add(uid, NOW + 20 * len(late) * SECOND, None, "short")

    async def simulate() -> None:
        for uid in ("short", *map(str, range(50))):
            queue.add(uid, NOW, None, uid if uid == "short" else f"of {uid}")
        running = asyncio.ensure_future(run(queue, reconcile, now, lambda _: None))
        await asyncio.sleep(ends)
        running.cancel()

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        runner.run(simulate())

    # At first, it is not known which namespaces are slow.
    assert max(late[4:]) < 1
    assert len(late) == ends / 20


def serve_at_once(queue: WorkQueue, uid: str, namespace: str) -> str | None:
    queue.add(uid, NOW, NOW + SECOND, namespace)
    if served := queue.get(NOW):
        queue.done(served)
    return served


async def serve_slowly(queue: WorkQueue, namespaces: list[str], *, ends: bool) -> None:
    for namespace in namespaces:
        queue.add(namespace, NOW, NOW, namespace)
        assert queue.get(NOW) == namespace
        queue.start_timer(namespace)
        await asyncio.sleep(1)
    if ends:
        await asyncio.sleep(60)
        for namespace in namespaces:
            queue.done(namespace)


def test_many_requests_of_slow_namespaces_delay_no_short_one() -> None:
    queue, names = WorkQueue(4), [f"slow-{number}" for number in range(36)]

    async def simulate() -> list[str | None]:
        await serve_slowly(queue, names[:12], ends=True)
        await serve_slowly(queue, names[12:24], ends=True)
        # The other four workers are for namespaces with short reconciliations.
        await serve_slowly(queue, names[24:], ends=False)
        for number in range(43 * 24):
            queue.add(f"waiting-{number}", NOW, NOW + SECOND, names[number % 24])
        return [serve_at_once(queue, f"short-{number}", "short") for number in range(20)]

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        assert runner.run(simulate()) == [f"short-{number}" for number in range(20)]
