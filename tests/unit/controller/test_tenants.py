"""One namespace has 5,000 short-lived requests, ten others a few each: an hour of the agenda, in virtual time."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from keyturn.controller.work_queue import WorkQueue, run
from tests.support.dependencies import NOW
from tests.support.virtual_time import VirtualTime

TENANT, OTHERS, WORKERS = 5000, 100, 16
SHORT, LONG = timedelta(minutes=15), timedelta(hours=1)
HOUR_SECONDS = 3600


@dataclass(slots=True)
class Cluster:
    """Requests that are renewed at two thirds of their life, at once when they are new."""

    call_seconds: float
    work_queue: WorkQueue = field(default_factory=lambda: WorkQueue(WORKERS))
    due: dict[str, datetime] = field(default_factory=dict)
    expires: dict[str, datetime] = field(default_factory=dict)
    late: list[tuple[str, timedelta]] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)

    def now(self) -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())

    def comes(self, uid: str, due: datetime, expires: datetime) -> None:
        self.due[uid], self.expires[uid] = due, expires
        self.work_queue.add(uid, due, expires, uid.partition("/")[0])

    async def run_one(self, uid: str) -> None:
        """Renew: one call, then a new place."""
        self.late.append((uid, self.now() - self.due[uid]))
        await asyncio.sleep(self.call_seconds)
        if self.now() > self.expires[uid]:
            self.expired.append(uid)
        life = SHORT if uid.startswith("tenant") else LONG
        jitter = life / 10 * (int(uid.partition("/")[2]) * 37 % 1000 / 1000)
        self.comes(uid, self.now() + life * 2 / 3 - jitter, self.now() + life)

    async def hour(self) -> None:
        """Others are there and renewing; then the tenant applies all at once."""
        for number in range(OTHERS):
            due = self.now() + LONG * number / OTHERS
            self.comes(f"other-{number % 10}/{number}", due, due + LONG / 3)
        running = asyncio.create_task(run(self.work_queue, self.run_one, self.now, lambda: None))
        await asyncio.sleep(60)
        for number in range(TENANT):
            self.comes(f"tenant/{number}", self.now(), self.now() + SHORT)
        await asyncio.sleep(HOUR_SECONDS - 60)
        running.cancel()


@pytest.fixture(
    scope="module",
    params=[0.2, 1.0],
    ids=["calls of 0.2 s", "slow calls: more than half of what all workers can do"],
)
def hour(request: pytest.FixtureRequest) -> Cluster:
    cluster = Cluster(request.param)
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        runner.run(cluster.hour())
    return cluster


def test_the_others_are_not_made_late(hour: Cluster) -> None:
    others = [late for uid, late in hour.late if uid.startswith("other")]

    assert len(others) >= OTHERS
    assert max(others) <= timedelta(seconds=hour.call_seconds)


def test_the_tenant_gets_all_that_the_others_leave(hour: Cluster) -> None:
    rounds = len([uid for uid, _ in hour.late if uid.startswith("tenant")]) / TENANT

    assert rounds >= 5
    assert hour.expired == []
