"""Steady renewal: how late a thousand requests are renewed if they become due evenly, and the highest rate."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from keyturn.core.issuance import Issuance, read_issuance
from tools.bench.environment import OPERATION, Environment
from tools.bench.table import Table
from tools.bench.usage import Usage

_RENEWAL_CPU = {"operator": 2.8, "API server": 7.3}  # ms
# Requests are renewed at 2/3 of the lifetime, minus the jitter times a tenth of it: at 37/60 on average.
MEAN_SHARE = 37 / 60
_SECONDS = 60
_STEP, _STEP_SECONDS, _HIGHEST = 25, 30, 200


@dataclass(frozen=True, slots=True)
class Renewal:
    """A renewal: when its Secret was seen, its issue time, and when the previous issuance was due and expired."""

    seen: datetime
    issued: datetime
    due: datetime
    expired: datetime

    @property
    def late(self) -> float:
        """Seconds between the due time and the written Secret."""
        return (self.seen - self.due).total_seconds()


@dataclass(slots=True)
class RenewalRecorder:
    """All renewals since the watch started, from the issuance records of the Secrets."""

    renewals: list[Renewal] = field(default_factory=list)
    first_issues: int = 0
    _issuances: dict[str, Issuance] = field(default_factory=dict)

    async def follow(self, env: Environment) -> None:
        """Record every change until cancelled. Raises EOFError if the API server ends the watch, after half an hour."""
        async for metadata in env.client.secret_changes():
            if issuance := read_issuance(metadata["annotations"]):
                self._record(metadata["uid"], issuance, _now())
        raise EOFError("the watch of Secrets ended")

    def overdue(self) -> int:
        """Count the renewals that are a second or more overdue."""
        limit = _now() - timedelta(seconds=1)
        return sum(issuance.due < limit for issuance in self._issuances.values())

    def _record(self, uid: str, issuance: Issuance, now: datetime) -> None:
        before = self._issuances.get(uid)
        self._issuances[uid] = issuance
        if before is None:
            self.first_issues += 1
        elif issuance.revision != before.revision:
            self.renewals.append(Renewal(now, issuance.issued, before.due, before.expires))


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - issuance records contain wall-clock times


@asynccontextmanager
async def recorded_renewals(env: Environment) -> AsyncIterator[RenewalRecorder]:
    """Record the renewals while the context is entered."""
    recorder = RenewalRecorder()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(recorder.follow(env))
        yield recorder
        following.cancel()


async def steady_20(env: Environment, table: Table) -> None:
    await _steady(env, table, 20)


async def steady_50(env: Environment, table: Table) -> None:
    await _steady(env, table, 50)


async def highest(env: Environment, table: Table) -> None:
    """Add 25 renewals a second until the 99th percentile is more than a second late."""
    env.aws.settings(session_seconds=_lifetime(1000, 50))
    env.start_operator()
    sustained = 0.0
    async with recorded_renewals(env) as recorder:
        await _create_evenly(env, range(1000), 50)
        for rate in range(50, _HIGHEST + 1, _STEP):
            await asyncio.sleep(10)
            first = len(recorder.renewals)
            await asyncio.sleep(_STEP_SECONDS)
            late = sorted(renewal.late for renewal in recorder.renewals[first:])
            table.add(f"renewals at {rate}/s: done", len(late) / _STEP_SECONDS, "per s")
            table.add(f"renewals at {rate}/s: late, p99", quantile(late, 0.99), "s")
            if quantile(late, 0.99) > 1:
                break
            sustained = rate
            await _create_evenly(env, range(20 * rate, 20 * (rate + _STEP)), _STEP)
    table.add("highest rate with p99 at most 1 s", sustained, "per s", at_least=100)
    table.add("highest rate: share that is more than 1 s late, by the metric", await _late_share(env), "of all")


async def _steady(env: Environment, table: Table, rate: int) -> None:
    """Create the requests evenly over one period, so that they become due evenly; then measure for a minute."""
    env.aws.settings(session_seconds=_lifetime(1000, rate))
    env.start_operator()
    async with recorded_renewals(env) as recorder:
        await _create_evenly(env, range(1000), rate)
        await asyncio.sleep(5)
        first, before = len(recorder.renewals), env.usage()
        await asyncio.sleep(_SECONDS)
        renewals, used = recorder.renewals[first:], env.usage() - before
        name = f"renewals at {rate}/s"
        table.add(f"{name}: peak memory", env.memory(peak=True), "MiB")
        table.add(f"{name}: connections to AWS", env.connections(), "", at_most=16)
        env.operator.stop()
        await asyncio.sleep(1)
    due = (
        sum(renewal.issued >= renewal.due.replace(microsecond=0) for renewal in recorder.renewals)
        + recorder.first_issues
    )
    table.add(f"{name}: AWS calls per issuance due", env.aws.calls(OPERATION) / due, "", exactly=1)
    add_renewals(table, name, renewals, used, p99=0.5)


def add_renewals(table: Table, name: str, renewals: list[Renewal], used: Usage, p99: float) -> None:
    """Add what renewals cost, and how late they were; `p99` is the goal for their lateness."""
    number = len(renewals)
    table.add(f"{name}: done", number / used.at, "per s")
    for share, goal in ((0.5, None), (0.95, None), (0.99, p99), (1, None)):
        late = quantile(sorted(renewal.late for renewal in renewals), share)
        label = "max" if share == 1 else f"p{share * 100:g}"
        table.add(f"{name}: late, {label}", late, "s", at_most=goal)
    requests = used.single_object_requests
    for what, count in sorted(requests.items()):
        if count >= number / 100:
            table.add(f"{name}: {what}", count / number, "each")
    table.add(f"{name}: API requests", round(requests.total() / number, 1), "each", at_most=3)
    table.add_cpu(name, used, number, _RENEWAL_CPU)


def _lifetime(number: int, rate: int) -> int:
    return round(number / rate / MEAN_SHARE)


async def _create_evenly(env: Environment, numbers: Iterable[int], rate: int) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number in numbers:
        await env.create_one(number)
        due += 1 / rate
        await asyncio.sleep(due - loop.time())


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("inf")


async def _late_share(env: Environment) -> float:
    in_time = env.operator.metric('keyturn_renewal_lateness_seconds_bucket{le="1.0"}') or 0
    return 1 - in_time / (env.operator.metric("keyturn_renewal_lateness_seconds_count") or 1)
