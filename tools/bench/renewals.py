"""Steady renewal: a thousand requests that become due evenly, how late each is renewed, and the highest rate."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tools.bench.ground import OPERATION, Ground
from tools.bench.table import Table
from tools.bench.usage import Usage

# They renew at 2/3 of the life, less a tenth of it times the jitter: in the mean after 37/60 of it.
_MEAN_SHARE = 37 / 60
_SECONDS = 60
_STEP, _STEP_SECONDS, _HIGHEST = 25, 30, 200


@dataclass(frozen=True, slots=True)
class Renewal:
    """A renewal as its new marks show it: when the Secret was seen, and what the former marks said."""

    seen: datetime
    issued: datetime
    due: datetime
    expired: datetime

    @property
    def late(self) -> float:
        """Seconds from the due time to the written Secret."""
        return (self.seen - self.due).total_seconds()


@dataclass(slots=True)
class Watched:
    """All renewals since the watch began, by the marks of the Secrets."""

    renewals: list[Renewal] = field(default_factory=list)
    first_issues: int = 0
    _marks: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def follow(self, on: Ground) -> None:
        """Take in every change, until cancelled."""
        async for metadata in on.client.secret_changes():
            issuance = json.loads(metadata["annotations"]["keyturn.dev/issuance"])
            self._see(metadata["uid"], issuance, datetime.now(UTC))  # noqa: TID251 - the marks have wall-clock times

    def _see(self, uid: str, issuance: dict[str, Any], now: datetime) -> None:
        before = self._marks.get(uid)
        self._marks[uid] = issuance
        if before is None:
            self.first_issues += 1
        elif issuance["revision"] != before["revision"]:
            self.renewals.append(Renewal(now, _at(issuance, "issued"), _at(before, "renew"), _at(before, "expires")))


def _at(issuance: dict[str, str], moment: str) -> datetime:
    return datetime.fromisoformat(issuance[moment])


@asynccontextmanager
async def watched(on: Ground) -> AsyncIterator[Watched]:
    """Watch the Secrets meanwhile."""
    seen = Watched()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(seen.follow(on))
        yield seen
        following.cancel()


async def steady_20(on: Ground, table: Table) -> None:
    await _steady(on, table, 20)


async def steady_50(on: Ground, table: Table) -> None:
    await _steady(on, table, 50)


async def highest(on: Ground, table: Table) -> None:
    """Add 25 renewals a second until the hundredth latest is more than a second late."""
    on.aws.settings(session_seconds=_life(1000, 50))
    on.start_operator()
    held = 0.0
    async with watched(on) as seen:
        await _create_evenly(on, range(1000), 50)
        for rate in range(50, _HIGHEST + 1, _STEP):
            await asyncio.sleep(10)
            first = len(seen.renewals)
            await asyncio.sleep(_STEP_SECONDS)
            late = sorted(one.late for one in seen.renewals[first:])
            table.add(f"renewals at {rate}/s: done", len(late) / _STEP_SECONDS, "per s")
            table.add(f"renewals at {rate}/s: late, p99", _share(late, 0.99), "s")
            if _share(late, 0.99) > 1:
                break
            held = rate
            await _create_evenly(on, range(20 * rate, 20 * (rate + _STEP)), _STEP)
    table.add("highest rate held with p99 at most 1 s", held, "per s")
    table.add("highest rate: past it the metric shows more than 1 s late", await _late_by_metric(on), "of all")


async def _steady(on: Ground, table: Table, rate: int) -> None:
    """Create them evenly over one period, so that they become due evenly; then measure for a minute."""
    on.aws.settings(session_seconds=_life(1000, rate))
    on.start_operator()
    async with watched(on) as seen:
        await _create_evenly(on, range(1000), rate)
        await asyncio.sleep(5)
        first, before = len(seen.renewals), on.used()
        await asyncio.sleep(_SECONDS)
        renewals, used = seen.renewals[first:], on.used() - before
        name = f"renewals at {rate}/s"
        table.add(f"{name}: peak memory", on.memory(peak=True), "MiB")
        table.add(f"{name}: connections to AWS", on.connections(), "", at_most=16)
        on.operator.stop()
        await asyncio.sleep(1)
    due = sum(one.issued >= one.due.replace(microsecond=0) for one in seen.renewals) + seen.first_issues
    table.add(f"{name}: AWS calls per issue due", on.aws.calls(OPERATION) / due, "", exactly=1)
    _tell(table, name, renewals, used)


def _tell(table: Table, name: str, renewals: list[Renewal], used: Usage) -> None:
    """Tell what a minute of renewals cost, and how late they were."""
    late, number = sorted(one.late for one in renewals), len(renewals)
    table.add(f"{name}: done", number / used.at, "per s")
    for share, goal in ((0.5, None), (0.99, 1), (1, None)):
        table.add(f"{name}: late, p{share * 100:g}", _share(late, share), "s", at_most=goal)
    requests = used.of_single_objects
    for what, count in sorted(requests.items()):
        if count >= number / 100:
            table.add(f"{name}: {what}", count / number, "each")
    table.add(f"{name}: API requests", round(requests.total() / number, 1), "each", at_most=3)
    table.add_cpu(name, used, number, at_most=5)


def _life(number: int, rate: int) -> int:
    return round(number / rate / _MEAN_SHARE)


async def _create_evenly(on: Ground, numbers: Iterable[int], rate: int) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number in numbers:
        await on.create_one(number)
        due += 1 / rate
        await asyncio.sleep(due - loop.time())


def _share(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("inf")


async def _late_by_metric(on: Ground) -> float:
    in_time = on.operator.metric('keyturn_renewal_lateness_seconds_bucket{le="1.0"}') or 0
    return 1 - in_time / (on.operator.metric("keyturn_renewal_lateness_seconds_count") or 1)
