import asyncio

from keyturn.controller.batches import Batches

MANY = tuple(f"{number}" for number in range(1000))


def ignore(_: Exception) -> None:
    pass


async def until_visited(batches: Batches, visited: list[str], number: int) -> int:
    """Run the background work until so many were visited; return the number of iterations of the event loop."""
    work, iterations = asyncio.create_task(batches.run()), 0
    async with asyncio.timeout(5):
        while len(visited) < number:
            await asyncio.sleep(0)
            iterations += 1
    work.cancel()
    return iterations


async def test_few_are_visited_at_once() -> None:
    visited: list[str] = []
    Batches(ignore).visit("secret", lambda: ("a", "b"), visited.append)

    assert visited == ["a", "b"]


async def test_many_are_visited_between_other_work() -> None:
    batches, visited = Batches(ignore), list[str]()
    batches.visit("secret", lambda: MANY, visited.append)

    assert visited == []
    assert await until_visited(batches, visited, len(MANY)) >= 10
    assert visited == list(MANY)


async def test_repeated_change_counts_as_one() -> None:
    batches, visited, others = Batches(ignore), list[str](), list[str]()
    for _ in range(100):
        batches.visit("secret", lambda: MANY, visited.append)
    batches.visit("another secret", lambda: MANY, others.append)
    await until_visited(batches, others, len(MANY))

    assert len(visited) == len(MANY)


async def test_repeated_change_costs_nothing_while_it_waits() -> None:
    calls: list[None] = []

    def uids() -> tuple[str, ...]:
        calls.append(None)
        return MANY

    batches = Batches(ignore)
    for _ in range(100):
        batches.visit("secret", uids, lambda _: None)

    assert len(calls) == 1


async def test_bug_does_not_end_the_background_work() -> None:
    bugs, visited = list[Exception](), list[str]()
    batches = Batches(bugs.append)

    def visit(uid: str) -> None:
        visited.append(uid)
        raise ValueError(uid)

    batches.visit("secret", lambda: MANY, visit)
    await until_visited(batches, visited, len(MANY))

    assert len(bugs) == len(MANY)
