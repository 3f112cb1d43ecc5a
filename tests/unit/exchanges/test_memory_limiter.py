import asyncio
from collections.abc import Iterable

from keyturn.exchanges.memory_limiter import MemoryLimiter


class Tasks:
    """Tasks that take a slot and hold it until `end` has an item for them. `order` has their namespaces."""

    def __init__(self) -> None:
        self.limiter, self.order, self.end = MemoryLimiter(), list[str](), asyncio.Queue[None]()

    async def run(self, namespace: str) -> None:
        async with self.limiter.slot(namespace):
            self.order.append(namespace)
            await self.end.get()

    def start(self, namespaces: Iterable[str]) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.run(namespace)) for namespace in namespaces]

    async def let_end(self, number: int) -> None:
        for _ in range(number):
            self.end.put_nowait(None)
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_eight_large_objects_are_in_memory_at_a_time() -> None:
    tasks = Tasks()
    running = tasks.start(f"tenant-{number}" for number in range(20))
    await settle()
    begun = [len(tasks.order)]
    for _ in range(2):
        await tasks.let_end(8)
        begun.append(len(tasks.order))
    await tasks.let_end(4)
    await asyncio.gather(*running)

    assert begun == [8, 16, 20]


async def test_slot_goes_to_the_namespace_with_the_fewest() -> None:
    tasks = Tasks()
    running = tasks.start([*["tenant"] * 20, "billing", "shop"])
    await settle()
    await tasks.let_end(2)
    third_and_fourth = tasks.order[8:]
    await tasks.let_end(20)
    await asyncio.gather(*running)

    assert third_and_fourth == ["billing", "shop"]


async def test_cancelled_task_keeps_no_slot() -> None:
    tasks = Tasks()
    running = tasks.start(["tenant"] * 9)
    await settle()
    # The slot of the first one is granted to the last one, which is cancelled at the same time.
    running[0].cancel()
    await asyncio.sleep(0)
    running[8].cancel()
    await settle()
    await tasks.let_end(7)
    others = tasks.start(["billing"] * 8)
    await settle()
    begun = tasks.order.count("billing")
    await tasks.let_end(8)
    await asyncio.gather(*running[1:8], *others)

    assert begun == 8


async def test_task_that_is_cancelled_while_it_waits_takes_no_slot() -> None:
    tasks = Tasks()
    running = tasks.start(["tenant"] * 9)
    await settle()
    running[8].cancel()
    await settle()
    others = tasks.start(["billing"])
    await settle()
    begun = len(tasks.order)
    await tasks.let_end(9)
    await asyncio.gather(*running[:8], *others)

    assert (begun, len(tasks.order)) == (8, 9)
