import asyncio
import time
from functools import partial

from keyturn.exchanges.cpu_limiter import CpuLimiter


async def test_other_work_continues_between_two_computations() -> None:
    limiter, order = CpuLimiter(), list[str]()

    async def work() -> None:
        while "computation 3" not in order:
            order.append("work")
            await asyncio.sleep(0)

    computations = [limiter.run("billing", lambda n=n: order.append(f"computation {n}")) for n in (1, 2, 3)]  # type: ignore[misc]
    await asyncio.gather(*computations, work())

    first, second, third = (order.index(f"computation {n}") for n in (1, 2, 3))
    assert "work" in order[first:second]
    assert "work" in order[second:third]


async def test_namespace_with_many_computations_does_not_delay_another() -> None:
    limiter, order = CpuLimiter(), list[str]()
    many = [limiter.run("tenant", lambda: order.append("tenant")) for _ in range(5)]
    await asyncio.gather(*many, limiter.run("billing", lambda: order.append("billing")))

    # One computation has just ended, and another one is waiting.
    assert order.index("billing") <= 2


async def test_computation_that_fails_does_not_stop_others() -> None:
    limiter = CpuLimiter()

    async with asyncio.timeout(5):
        results = await asyncio.gather(
            *(limiter.run("billing", lambda: 1 // 0) for _ in range(2)), return_exceptions=True
        )

    assert [type(result) for result in results] == [ZeroDivisionError] * 2


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def test_many_short_computations_wait_for_few_long_ones() -> None:
    limiter, order = CpuLimiter(), list[str]()

    def compute(namespace: str, seconds: float) -> None:
        order.append(namespace)
        work(seconds)

    async def compute_all(namespace: str, number: int, seconds: float) -> None:
        for _ in range(number):
            await limiter.run(namespace, partial(compute, namespace, seconds))

    tenants = [asyncio.create_task(compute_all(f"tenant-{number}", 20, 0.005)) for number in range(10)]
    while len(order) < 20:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0)
    del order[:]
    await compute_all("billing", 10, 0)
    others = len(order) - 10
    for task in tenants:
        task.cancel()

    # For example, the batches of a CA bundle. If namespaces alternated, there would be about ten others for each.
    assert others <= 10


async def test_only_the_namespaces_that_used_most_time_are_remembered() -> None:
    limiter = CpuLimiter()
    await limiter.run("tenant", lambda: work(0.02))
    async with asyncio.timeout(20):
        for number in range(1100):
            await limiter.run(f"namespace-{number}", lambda: None)

    assert len(limiter._used) <= 1024
    assert "tenant" in limiter._used


async def test_cancelled_computation_does_not_stop_others() -> None:
    limiter, order = CpuLimiter(), list[str]()

    async with asyncio.timeout(5):
        tasks = [asyncio.create_task(limiter.run("billing", partial(order.append, name))) for name in "abcd"]
        while not order:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
        tasks[2].cancel()
        while len(order) < 2:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)

    assert order == ["a", "b", "d"]


async def test_computation_cancelled_at_its_turn_does_not_stop_others() -> None:
    for iterations in range(20):
        limiter, order = CpuLimiter(), list[str]()
        async with asyncio.timeout(5):
            tasks = [asyncio.create_task(limiter.run("billing", partial(order.append, name))) for name in "abc"]
            while not order:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)
            for _ in range(iterations):
                await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        assert order in (["a", "c"], ["a", "b", "c"])
