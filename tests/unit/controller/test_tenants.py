"""Simulates the queue: some namespaces have many short-lived requests or slow ones, others have a few."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from keyturn.controller.work_queue import WorkQueue, run
from keyturn.exchanges.rate_limit import ConcurrencyLimiters
from tests.support.dependencies import NOW, SECOND
from tests.support.virtual_time import VirtualTime, in_virtual_time

TENANT, OTHERS, WORKERS = 1300, 100, 4
SHORT, LONG = timedelta(minutes=15), timedelta(hours=1)
HOUR_SECONDS = 3600


@dataclass(slots=True)
class Cluster:
    """Requests that are renewed at two thirds of their lifetime; new ones are due immediately."""

    call_seconds: float
    work_queue: WorkQueue = field(default_factory=lambda: WorkQueue(WORKERS))
    due: dict[str, datetime] = field(default_factory=dict)
    expires: dict[str, datetime] = field(default_factory=dict)
    late: list[tuple[str, timedelta]] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)

    def now(self) -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())

    def add(self, uid: str, due: datetime, expires: datetime) -> None:
        self.due[uid], self.expires[uid] = due, expires
        self.work_queue.add(uid, due, expires, uid.partition("/")[0])

    async def run_one(self, uid: str) -> None:
        """Renew with one call and queue the next renewal."""
        self.late.append((uid, self.now() - self.due[uid]))
        await asyncio.sleep(self.call_seconds)
        if self.now() > self.expires[uid]:
            self.expired.append(uid)
        lifetime = SHORT if uid.startswith("tenant") else LONG
        jitter = lifetime / 10 * (int(uid.partition("/")[2]) * 37 % 1000 / 1000)
        self.add(uid, self.now() + lifetime * 2 / 3 - jitter, self.now() + lifetime)

    async def hour(self) -> None:
        """Start with the other namespaces; after a minute, add all requests of the tenant."""
        for number in range(OTHERS):
            due = self.now() + LONG * number / OTHERS
            self.add(f"other-{number % 10}/{number}", due, due + LONG / 3)
        running = asyncio.create_task(run(self.work_queue, self.run_one, self.now, lambda _: None))
        await asyncio.sleep(60)
        for number in range(TENANT):
            self.add(f"tenant/{number}", self.now(), self.now() + SHORT)
        await asyncio.sleep(HOUR_SECONDS - 60)
        running.cancel()

    async def delays_of_another(
        self, run_one: Callable[[str], Awaitable[None]], number: int, interval_seconds: float
    ) -> list[timedelta]:
        """Add requests of another namespace at intervals, and return how late they and their renewals were."""
        running = asyncio.create_task(run(self.work_queue, run_one, self.now, lambda _: None))
        for index in range(number):
            await asyncio.sleep(interval_seconds)
            self.add(f"other/{index}", self.now(), self.now() + SHORT)
        await asyncio.sleep(1)
        running.cancel()
        return [late for uid, late in self.late if uid.startswith("other")]

    def run_one_of(self, call_seconds: float, interval: timedelta) -> Callable[[str], Awaitable[None]]:
        """Return a `run_one` for which calls of tenants take this long, and are repeated after the interval."""

        async def run_one(uid: str) -> None:
            if uid.startswith("tenant"):
                await asyncio.sleep(call_seconds)
                self.add(uid, self.now() + interval, self.now())
            else:
                await self.run_one(uid)

        return run_one


@pytest.fixture(
    scope="module",
    params=[0.2, 1.0],
    ids=["calls of 0.2 s", "slow calls that need more than half of the workers"],
)
def hour(request: pytest.FixtureRequest) -> Cluster:
    cluster = Cluster(request.param)
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        runner.run(cluster.hour())
    return cluster


def test_other_namespaces_are_not_delayed(hour: Cluster) -> None:
    others = [late for uid, late in hour.late if uid.startswith("other")]

    assert len(others) >= OTHERS
    assert max(others) <= timedelta(seconds=hour.call_seconds)


def test_tenant_gets_the_remaining_capacity(hour: Cluster) -> None:
    rounds = len([uid for uid, _ in hour.late if uid.startswith("tenant")]) / TENANT

    assert rounds >= 5
    assert hour.expired == []


@in_virtual_time
async def test_slow_requests_of_a_tenant_delay_others_by_less_than_a_second() -> None:
    """A request of the tenant occupies a worker for most of a minute, for example with writes that time out."""
    cluster = Cluster(call_seconds=0.2)

    async def run_one(uid: str) -> None:
        if uid.startswith("tenant"):
            await asyncio.sleep(47)
        await cluster.run_one(uid)

    for number in range(50):
        cluster.add(f"tenant/{number}", cluster.now(), cluster.now() + SHORT)
    delays = await cluster.delays_of_another(run_one, HOUR_SECONDS // 10, 10)

    assert len(delays) > 300
    assert max(delays) < timedelta(seconds=1)


@pytest.mark.parametrize("call_seconds", [0.05, 0.25, 0.45, 1.0, 4.9, 12.0])
@in_virtual_time
async def test_slow_requests_of_many_tenants_do_not_delay_others(call_seconds: float) -> None:
    """In each of 20 namespaces, 200 requests are tried again all the time, for example because their issuer is slow."""
    cluster = Cluster(call_seconds=0.1, work_queue=WorkQueue(16))

    for number in range(4000):
        cluster.add(f"tenant-{number % 20}/{number}", cluster.now(), cluster.now())
    delays = await cluster.delays_of_another(cluster.run_one_of(call_seconds, timedelta(seconds=10)), 500, 0.2)

    assert len(delays) == 500
    assert max(delays) < timedelta(seconds=1)


@pytest.mark.parametrize("call_seconds", [1.5, 5.0, 12.0])
@in_virtual_time
async def test_slow_requests_leave_more_than_one_worker_to_others(call_seconds: float) -> None:
    """Another namespace has more renewals than one worker can make: four in a second, each of which takes 0.4 s."""
    cluster = Cluster(call_seconds=0.4, work_queue=WorkQueue(16))

    for number in range(100):
        cluster.add(f"tenant-{number % 20}/{number}", cluster.now(), cluster.now())
    delays = await cluster.delays_of_another(cluster.run_one_of(call_seconds, timedelta()), 240, 0.25)

    assert len(delays) == 240
    assert max(delays) < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("tenants", "call_seconds", "longest"),
    [
        pytest.param(50, [0.9], 1, id="a little shorter"),
        pytest.param(100, [12.0], 1, id="much longer"),
        pytest.param(100, [0.9, 1.9, 4.0, 12.0], 7, id="shorter and longer"),
    ],
)
@in_virtual_time
async def test_requests_of_many_tenants_do_not_prevent_long_ones(
    tenants: int, call_seconds: list[float], longest: float
) -> None:
    """Another namespace has a renewal every 20 s that takes 1.2 s."""
    cluster = Cluster(call_seconds=1.2, work_queue=WorkQueue(16))

    async def run_one(uid: str) -> None:
        seconds = call_seconds[int(uid.partition("/")[2]) % len(call_seconds)]
        await cluster.run_one_of(seconds, SECOND)(uid)

    for number in range(6 * tenants):
        cluster.add(f"tenant-{number % tenants}/{number}", cluster.now(), cluster.now())
    delays = await cluster.delays_of_another(run_one, 25, 20)

    # The last one may still be waiting.
    assert len(delays) >= 24
    # At first, it is not known which namespaces have long requests.
    assert max(delays[2:]) <= timedelta(seconds=longest)


@in_virtual_time
async def test_namespace_with_short_requests_is_served_more_often() -> None:
    """Another namespace has 20 renewals of 0.05 s every 10 s, and each of 20 tenants always has some of 0.24 s."""
    cluster = Cluster(call_seconds=0.05)
    for number in range(400):
        cluster.add(f"tenant-{number % 20}/{number}", cluster.now(), cluster.now())
    run_one = cluster.run_one_of(0.24, SECOND)
    running = asyncio.create_task(run(cluster.work_queue, run_one, cluster.now, lambda _: None))
    for number in range(100):
        if number % 20 == 0:
            await asyncio.sleep(10)
        cluster.add(f"other/{number}", cluster.now(), cluster.now() + SHORT)
    await asyncio.sleep(10)
    running.cancel()

    assert len(cluster.late) == 100
    assert max(late for _, late in cluster.late) < timedelta(seconds=10)


@pytest.mark.parametrize("call_seconds", [0.2, 0.24, 5.0])
@in_virtual_time
async def test_calls_of_many_tenants_to_an_issuer_do_not_delay_others(call_seconds: float) -> None:
    """Twenty tenants use the token URL of another one, and occupy their workers with calls to others."""
    cluster = Cluster(call_seconds=0, work_queue=WorkQueue(16))
    limiter = ConcurrencyLimiters(2, lambda uid: cluster.work_queue.expedite(uid, cluster.now())).get("issuer")
    waiting: dict[str, datetime] = {}

    async def run_one(uid: str) -> None:
        namespace, now = uid.partition("/")[0], cluster.now()
        if int(uid.partition("/")[2]) % 2 and namespace != "other":
            await asyncio.sleep(call_seconds)
        elif wait := limiter.acquire(asyncio.get_running_loop().time(), namespace, uid):
            waiting.setdefault(uid, cluster.due[uid])
            cluster.work_queue.add(uid, now + timedelta(seconds=max(wait, 1)), cluster.expires[uid], namespace)
            return
        else:
            cluster.late.append((uid, now - waiting.pop(uid, cluster.due[uid])))
            await asyncio.sleep(0.2)
            limiter.release(asyncio.get_running_loop().time(), 0.2, namespace)
        if namespace != "other":
            cluster.add(uid, cluster.now() + timedelta(seconds=10), cluster.now())

    for number in range(100):
        for tenant in range(20):
            cluster.add(f"tenant-{tenant}/{number}", cluster.now(), cluster.now())
    delays = await cluster.delays_of_another(run_one, 100, 1)

    assert len(delays) == 100
    assert max(delays) < timedelta(seconds=1)
