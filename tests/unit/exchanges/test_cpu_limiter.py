import asyncio

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
