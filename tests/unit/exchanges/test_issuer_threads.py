import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from keyturn.exchanges import issuer_threads
from keyturn.exchanges.issuer_threads import IssuerThreads


@pytest.fixture
def has_responded() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def run_blocked(threads: IssuerThreads, namespace: str, has_responded: threading.Event) -> None:
    """Run a request that blocks its thread, as OpenSSL and the resolver do, until it times out."""

    async def block() -> None:
        has_responded.wait(30)

    with pytest.raises(TimeoutError):
        await threads.run(namespace, block, 0.05)


async def run_if_shared(threads: IssuerThreads, namespace: str, has_responded: threading.Event) -> None:
    if threads.has_share(namespace):
        await run_blocked(threads, namespace, has_responded)


async def test_request_runs_in_a_loop_of_its_own() -> None:
    threads = IssuerThreads(1)

    async def own_loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert await threads.run("billing", own_loop, 5) is not asyncio.get_running_loop()


async def test_blocked_requests_of_a_tenant_do_not_delay_others(has_responded: threading.Event) -> None:
    threads = IssuerThreads(16)
    # What a minute of requests that never end leaves behind, with a new one in each worker every ten seconds.
    await asyncio.gather(*(run_blocked(threads, "tenant", has_responded) for _ in range(100)))

    async def respond() -> str:
        return "response"

    assert await threads.run("billing", respond, 5) == "response"


async def test_namespace_with_blocked_requests_starts_no_others(has_responded: threading.Event) -> None:
    threads = IssuerThreads(2)
    for _ in range(3):
        await run_blocked(threads, "tenant", has_responded)
    assert not threads.is_overdue("tenant")

    await run_blocked(threads, "tenant", has_responded)
    assert threads.is_overdue("tenant")
    assert not threads.is_overdue("billing")

    has_responded.set()
    async with asyncio.timeout(5):
        while threads.is_overdue("tenant"):  # noqa: ASYNC110 - there is no event for the end of a thread
            await asyncio.sleep(0.01)


async def test_blocked_requests_of_many_namespaces_leave_threads(has_responded: threading.Event) -> None:
    threads = IssuerThreads(32)
    # Twenty namespaces, one after the other, as fast as the workers allow.
    for number in range(20):
        await asyncio.gather(*(run_if_shared(threads, f"tenant-{number}", has_responded) for _ in range(14)))
    for _ in range(3):
        await asyncio.gather(*(run_if_shared(threads, f"tenant-{number}", has_responded) for number in range(20)))

    async def respond() -> str:
        return "response"

    assert not threads.has_share("tenant-0")
    assert threads.has_share("billing")
    assert await threads.run("billing", respond, 5) == "response"


async def test_few_of_many_addresses_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def info(family: int, number: int) -> tuple[int, int, int, str, tuple[str, int]]:
        address = f"2001:db8::{number}" if family == socket.AF_INET6 else f"192.0.2.{number}"
        return family, socket.SOCK_STREAM, 6, "", (address, 443)

    # Each address occurs ten times: a name server may repeat them.
    many = [info(family, number // 10) for family in (socket.AF_INET6, socket.AF_INET) for number in range(200)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: many)

    async def resolve() -> list[tuple[int, int, int, str, tuple[str, int]]]:
        addresses: list[tuple[int, int, int, str, tuple[str, int]]]
        addresses = await asyncio.get_running_loop().getaddrinfo("id.example", 443)  # type: ignore[assignment]
        return addresses

    assert await IssuerThreads(1).run("billing", resolve, 5) == [*many[:8], *many[200:208]]


async def compute_for_long() -> None:
    """Compute until requests continue only one at a time, and then wait for the turn of this one."""
    ended = time.thread_time() + 0.02
    while time.thread_time() < ended:
        pass
    await asyncio.sleep(0)


async def test_requests_that_compute_for_long_continue_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, up to 64 threads would compete with the event loop of the process for Python's lock."""
    monkeypatch.setattr(issuer_threads, "_LONGEST_WAIT_SECONDS", 10)
    threads, computing = IssuerThreads(4), list[int]()

    async def compute() -> int:
        await compute_for_long()
        computing.append(1)
        number = len(computing)
        time.sleep(0.01)  # noqa: ASYNC251 - another thread that computed would be noticed
        computing.pop()
        return number

    assert await asyncio.gather(*(threads.run("tenant", compute, 10) for _ in range(8))) == [1] * 8


@pytest.mark.parametrize(
    ("resolves", "longest_wait_seconds"),
    [
        pytest.param(True, 20, id="resolves a name"),
        pytest.param(False, 0.2, id="blocks its thread, as a handshake does"),
    ],
)
async def test_request_that_waits_for_others_does_not_stop_them(
    resolves: bool,  # noqa: FBT001 - a parameter
    longest_wait_seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_waiting, has_continued, threads = threading.Event(), threading.Event(), IssuerThreads(1)

    def wait(*_: object, **__: object) -> list[tuple[Any, ...]]:
        is_waiting.set()
        has_continued.wait(10)
        return []

    monkeypatch.setattr(issuer_threads, "_LONGEST_WAIT_SECONDS", longest_wait_seconds)
    monkeypatch.setattr(socket, "getaddrinfo", wait)

    async def wait_for_other() -> bool:
        await compute_for_long()
        if resolves:
            await asyncio.get_running_loop().getaddrinfo("id.example", 443)
        else:
            wait()
        return has_continued.is_set()

    async def continue_() -> None:
        is_waiting.wait(10)
        await compute_for_long()
        has_continued.set()

    waited, _ = await asyncio.gather(*(threads.run("tenant", it, 30) for it in (wait_for_other, continue_)))
    assert waited
