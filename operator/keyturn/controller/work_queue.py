"""The agenda: which request is looked at next, and by how many at a time."""

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

_LONGEST_SLEEP_SECONDS = 30.0
_SPARE = 1000
_STEP = timedelta(seconds=5)  # less is a clock that is kept in time

# When it expires, its serial, its uid and its namespace.
_Waiting = tuple[datetime, int, str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """A request's place: when it is due, and what expires first goes first among those overdue."""

    due: datetime
    expires: datetime
    namespace: str
    serial: int


class WorkQueue:
    """One priority queue keyed by uid. At most one look at a request at a time.

    Among the overdue the soonest to expire goes first; one namespace has at most half of the `workers` while
    others wait. Time is an argument: the agenda never looks at a clock.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._places: dict[str, Place] = {}
        self._coming: list[tuple[datetime, int, str]] = []
        self._overdue: list[_Waiting] = []
        self._parked: dict[str, list[_Waiting]] = {}
        self._busy: dict[str, str] = {}
        self._busy_in: Counter[str] = Counter()
        self._expedited: dict[str, datetime] = {}
        self._serial = itertools.count()
        self.changed = asyncio.Event()

    def put(self, uid: str, due: datetime, expires: datetime, namespace: str) -> None:
        """Give a request a place, instead of the one it may have. A busy one takes it when it is done."""
        due = min(due, self._expedited.pop(uid, due))
        place = Place(due, expires, namespace, next(self._serial))
        self._places[uid] = place
        if uid not in self._busy:
            self._queue(uid, place)

    def expedite(self, uid: str, due: datetime) -> None:
        """Move a request forward to `due`, unless it is due before. A busy one is looked at again."""
        place = self._places.get(uid)
        if uid in self._busy:
            self._expedited[uid] = due
        elif place and due < place.due:
            self.put(uid, due, place.expires, place.namespace)

    def remove(self, uid: str) -> None:
        """Forget a request; a look in hand goes on to its end."""
        self._places.pop(uid, None)
        self._expedited.pop(uid, None)

    def take(self, now: datetime) -> str | None:
        """Take the request to look at now, if one is due and a worker is free for it; `done` gives it back."""
        if len(self._busy) >= self.workers:
            return None
        self._collect(now)
        item = self._next_fair() or self._next_of_the_only_one()
        if item is None:
            return None
        _, _, uid, namespace = item
        del self._places[uid]
        self._busy[uid] = namespace
        self._busy_in[namespace] += 1
        return uid

    def done(self, uid: str) -> None:
        """End a look. Where a place was given meanwhile, it counts from now on."""
        namespace = self._busy.pop(uid)
        self._busy_in[namespace] -= 1
        if not self._busy_in[namespace]:
            del self._busy_in[namespace]
        self._unpark(namespace)
        if uid in self._places:
            self._queue(uid, self._places[uid])
        self.changed.set()

    def next_due(self) -> datetime | None:
        """When the next request becomes due; None where none waits for its time."""
        while self._coming and not self._is_current(*self._coming[0][1:]):
            heapq.heappop(self._coming)
        return self._coming[0][0] if self._coming else None

    def counts(self) -> dict[str, int]:
        """How many requests are in which state; may be called from another thread."""
        waiting = list(self._overdue) + [item for parked in list(self._parked.values()) for item in list(parked)]
        overdue = sum(self._is_current(serial, uid) for _, serial, uid, _ in waiting)
        placed = len(self._places.keys() - self._busy.keys())
        return {"delayed": max(0, placed - overdue), "ready": overdue, "in_progress": len(self._busy)}

    def _queue(self, uid: str, place: Place) -> None:
        heapq.heappush(self._coming, (place.due, place.serial, uid))
        if len(self._coming) > 2 * len(self._places) + _SPARE:
            # Places that were replaced stay until their time: who is hurried often would leave many.
            self._coming = [item for item in self._coming if self._is_current(*item[1:])]
            heapq.heapify(self._coming)
        self.changed.set()

    def _collect(self, now: datetime) -> None:
        while self._coming and self._coming[0][0] <= now:
            _, serial, uid = heapq.heappop(self._coming)
            if self._is_current(serial, uid):
                place = self._places[uid]
                heapq.heappush(self._overdue, (place.expires, serial, uid, place.namespace))

    def _next_fair(self) -> _Waiting | None:
        """The most urgent of a namespace that has not its share yet; those of the others are parked."""
        while self._overdue:
            item = heapq.heappop(self._overdue)
            _, serial, uid, namespace = item
            if not self._is_current(serial, uid):
                self._unpark(namespace)
            elif self._busy_in[namespace] < max(1, self.workers // 2):
                return item
            else:
                heapq.heappush(self._parked.setdefault(namespace, []), item)
        return None

    def _next_of_the_only_one(self) -> _Waiting | None:
        """The most urgent of a namespace beyond its share, where nobody else waits."""
        for namespace in [name for name in self._parked if not self._head(name)]:
            del self._parked[namespace]
        if len(self._parked) != 1:
            return None
        return heapq.heappop(next(iter(self._parked.values())))

    def _unpark(self, namespace: str) -> None:
        """Let the next of a namespace wait with the others again: `_parked` holds none that could go."""
        if self._head(namespace):
            heapq.heappush(self._overdue, heapq.heappop(self._parked[namespace]))
        else:
            self._parked.pop(namespace, None)

    def _head(self, namespace: str) -> bool:
        """Whether somebody is parked in a namespace; drops what is out of date."""
        parked = self._parked.get(namespace, [])
        while parked and not self._is_current(*parked[0][1:3]):
            heapq.heappop(parked)
        return bool(parked)

    def _is_current(self, serial: int, uid: str) -> bool:
        place = self._places.get(uid)
        return place is not None and place.serial == serial


async def run(
    work_queue: WorkQueue,
    run_one: Callable[[str], Awaitable[None]],
    now: Callable[[], datetime],
    set_back: Callable[[], None],
) -> None:
    """Look at what is due, for ever, each request in a task of its own.

    Sleeps are monotonic and at most 30 s long: a clock that is set does not make anything late for longer. When it
    was set back, `set_back` is called, for every time to come was reckoned by another clock.
    """
    now = _watched(now, set_back)

    async def attended(uid: str) -> None:
        try:
            await run_one(uid)
        finally:
            work_queue.done(uid)

    async with asyncio.TaskGroup() as tasks:
        while True:
            work_queue.changed.clear()
            while uid := work_queue.take(now()):
                tasks.create_task(attended(uid))
            due = work_queue.next_due()
            wait = min((due - now()).total_seconds(), _LONGEST_SLEEP_SECONDS) if due else _LONGEST_SLEEP_SECONDS
            if wait > 0:
                await _sleep(work_queue.changed, wait)
            else:
                # Overdue, but every worker is busy, or has its namespace's share: `done` wakes us.
                await work_queue.changed.wait()


def _watched(now: Callable[[], datetime], set_back: Callable[[], None]) -> Callable[[], datetime]:
    """The clock, looked at by somebody who calls `set_back` when it shows less than before."""
    latest = now()

    def reconcile() -> datetime:
        nonlocal latest
        latest, before = now(), latest
        if latest < before - _STEP:
            set_back()
        return latest

    return reconcile


async def _sleep(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return
