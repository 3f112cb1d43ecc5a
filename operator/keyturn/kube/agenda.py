"""The agenda: which request is looked at next, and by how many at a time."""

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

_LONGEST_SLEEP_SECONDS = 30.0
_STEP = timedelta(seconds=5)  # less is a clock that is kept in time


@dataclass(frozen=True, slots=True)
class Place:
    """A request's place: when it is due, and what expires first goes first among those overdue."""

    due: datetime
    expires: datetime
    namespace: str
    serial: int


class Agenda:
    """One priority queue keyed by uid. At most one look at a request at a time.

    Among the overdue the soonest to expire goes first; one namespace has at most half of the `workers` while
    others wait. Time is an argument: the agenda never looks at a clock.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._places: dict[str, Place] = {}
        self._coming: list[tuple[datetime, int, str]] = []
        self._overdue: dict[str, list[tuple[datetime, int, str]]] = {}
        self._busy: dict[str, str] = {}
        self._busy_in: Counter[str] = Counter()
        self._hurried: dict[str, datetime] = {}
        self._serial = itertools.count()
        self.changed = asyncio.Event()

    def put(self, uid: str, due: datetime, expires: datetime, namespace: str) -> None:
        """Give a request a place, instead of the one it may have. A busy one takes it when it is done."""
        due = min(due, self._hurried.pop(uid, due))
        place = Place(due, expires, namespace, next(self._serial))
        self._places[uid] = place
        if uid not in self._busy:
            self._queue(uid, place)

    def hurry(self, uid: str, due: datetime) -> None:
        """Move a request forward to `due`, unless it is due before. A busy one is looked at again."""
        place = self._places.get(uid)
        if uid in self._busy:
            self._hurried[uid] = due
        elif place and due < place.due:
            self.put(uid, due, place.expires, place.namespace)

    def remove(self, uid: str) -> None:
        """Forget a request; a look in hand goes on to its end."""
        self._places.pop(uid, None)
        self._hurried.pop(uid, None)

    def take(self, now: datetime) -> str | None:
        """Take the request to look at now, if one is due and a worker is free for it; `done` gives it back."""
        if len(self._busy) >= self.workers:
            return None
        self._collect(now)
        self._overdue = {namespace: queue for namespace, queue in self._overdue.items() if self._head(namespace)}
        waiting = list(self._overdue)
        share = max(1, self.workers // 2)
        fair = [n for n in waiting if self._busy_in[n] < share or len(waiting) == 1]
        if not fair:
            return None
        namespace = min(fair, key=lambda n: self._overdue[n][0])
        _, _, uid = heapq.heappop(self._overdue[namespace])
        del self._places[uid]
        self._busy[uid] = namespace
        self._busy_in[namespace] += 1
        return uid

    def done(self, uid: str) -> None:
        """End a look. Where a place was given meanwhile, it counts from now on."""
        self._busy_in[self._busy.pop(uid)] -= 1
        if uid in self._places:
            self._queue(uid, self._places[uid])
        self.changed.set()

    def next_due(self) -> datetime | None:
        """When the next request becomes due; None where none waits for its time."""
        while self._coming and not self._is_current(self._coming[0]):
            heapq.heappop(self._coming)
        return self._coming[0][0] if self._coming else None

    def counts(self) -> dict[str, int]:
        """How many requests are in which state."""
        placed = len(self._places.keys() - self._busy.keys())
        overdue = sum(self._is_current(item) for queue in self._overdue.values() for item in queue)
        return {"waiting": placed - overdue, "due": overdue, "busy": len(self._busy)}

    def _queue(self, uid: str, place: Place) -> None:
        heapq.heappush(self._coming, (place.due, place.serial, uid))
        self.changed.set()

    def _collect(self, now: datetime) -> None:
        while self._coming and self._coming[0][0] <= now:
            item = heapq.heappop(self._coming)
            if self._is_current(item):
                place = self._places[item[2]]
                queue = self._overdue.setdefault(place.namespace, [])
                heapq.heappush(queue, (place.expires, place.serial, item[2]))

    def _head(self, namespace: str) -> bool:
        """Whether somebody waits in a namespace; drops what is out of date."""
        queue = self._overdue[namespace]
        while queue and not self._is_current(queue[0]):
            heapq.heappop(queue)
        return bool(queue)

    def _is_current(self, item: tuple[datetime, int, str]) -> bool:
        _, serial, uid = item
        place = self._places.get(uid)
        return place is not None and place.serial == serial


async def run(
    agenda: Agenda,
    attend: Callable[[str], Awaitable[None]],
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
            await attend(uid)
        finally:
            agenda.done(uid)

    async with asyncio.TaskGroup() as tasks:
        while True:
            agenda.changed.clear()
            while uid := agenda.take(now()):
                tasks.create_task(attended(uid))
            due = agenda.next_due()
            wait = min((due - now()).total_seconds(), _LONGEST_SLEEP_SECONDS) if due else _LONGEST_SLEEP_SECONDS
            if wait > 0:
                await _sleep(agenda.changed, wait)
            else:
                # Overdue, but every worker is busy, or has its namespace's share: `done` wakes us.
                await agenda.changed.wait()


def _watched(now: Callable[[], datetime], set_back: Callable[[], None]) -> Callable[[], datetime]:
    """The clock, looked at by somebody who calls `set_back` when it shows less than before."""
    latest = now()

    def look() -> datetime:
        nonlocal latest
        latest, before = now(), latest
        if latest < before - _STEP:
            set_back()
        return latest

    return look


async def _sleep(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return
