"""The work queue: selects the next request to reconcile, and limits how many run at a time."""

import asyncio
import contextlib
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from keyturn.core.clock import ClockSteps

_LONGEST_SLEEP_SECONDS = 30.0
_MAX_STALE_ENTRIES = 1000
# Every eighth worker serves only namespaces without a busy worker.
_RESERVED = 8
# Longer than most reconciliations take. A tenant can cause slower ones, for example with a slow issuer.
_SLOW_SECONDS = 0.25
# While reconciliations are slow, up to this many times as many workers are busy.
_MAX_WORKERS_FACTOR = 4
# A namespace in which a reconciliation took longer than this recently gets only one of these workers.
_LONG_SECONDS, _HALF_LIFE_SECONDS = 1.0, 30.0
# How many workers long reconciliations may occupy: from how many seconds, and the number as a multiple of `workers`.
_SHARES = ((_LONG_SECONDS, 3.0), (2.0, 2.75), (4.0, 2.5), (8.0, 2.25))
# Each time that this happens again, it is remembered for twice as long, up to 100 minutes if it took ten seconds.
# Otherwise, a tenant with many namespaces that are slow together every two minutes would delay others each time.
_LONGEST_HALF_LIFE_SECONDS, _FORGOTTEN_AFTER_SECONDS = 1800.0, 12 * 3600.0
# About as long as a short reconciliation takes.
_ROUND_SECONDS = 0.05
_NEVER, _ALWAYS = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)

# The expiry, serial, uid and namespace of an overdue request.
_Waiting = tuple[datetime, int, str, str]
# How many reconciliations of a namespace have a worker, and how many have released theirs.
_Load = tuple[int, int]


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """A queued request: when it is due, and when it expires, which orders overdue requests (see Entry.deadline)."""

    due: datetime
    expires: datetime
    namespace: str
    serial: int


class WorkQueue:
    """A priority queue keyed by uid. A request is reconciled by at most one worker at a time.

    A free worker serves the namespace with the fewest busy workers; among equal ones, the one with the fewest
    reconciliations that released theirs. Namespaces that are equal alternate, and in each round the request that
    expires first is served first. Otherwise a tenant with many namespaces and requests without credentials, which
    count as expired, would delay others until their credentials expire.

    A reconciliation counts as one more round for each 0.05 s that it takes, up to 0.25 s, when it becomes a slow one.
    Otherwise a namespace with short reconciliations would have few of them while many namespaces have longer ones.

    The last eighth of the workers serves only namespaces without a busy one, so that a single namespace never occupies
    all. Additional workers replace those with slow reconciliations, up to four times as many in total. They serve
    namespaces that have no busy worker, and those whose recent reconciliations were all short. Long ones occupy at
    most three quarters of them, and fewer the longer they take, so that a namespace waits only for reconciliations
    that are hardly longer than its own. Many or slow requests delay only their own namespace.

    Due times are arguments; only the duration of a reconciliation is measured, with the clock of the event loop.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._queued: dict[str, QueuedRequest] = {}
        self._delayed: list[tuple[datetime, int, str]] = []
        # The overdue requests of each namespace, and the first one of each, with the load and round of the namespace.
        self._ready: dict[str, list[_Waiting]] = {}
        self._first: list[tuple[_Load, float, _Waiting]] = []
        self._busy: dict[str, str] = {}
        self._without_worker: set[str] = set()
        # The reconciliations that take long, and the timers that notice this.
        self._slow: set[str] = set()
        # By namespace: how many of them there are; how long the longest recent one took, when it ended, and its
        # half-life in seconds.
        self._slow_in: Counter[str] = Counter()
        self._longest: dict[str, tuple[float, float, float]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        # Reconciliations that wait for a worker again, by the name that stands for each of them in the queue.
        self._returning: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self._loads: dict[str, _Load] = {}
        # The next round of each namespace, and the latest round that has begun, in which a namespace begins to wait.
        self._rounds: dict[str, float] = {}
        self._round, self._most_rounds = 0.0, _MAX_STALE_ENTRIES
        self._expedited: dict[str, datetime] = {}
        self._serial = itertools.count()
        self.changed = asyncio.Event()

    def add(self, uid: str, due: datetime | None, expires: datetime | None, namespace: str) -> None:
        """Add a request, or replace its entry. With `due` None it waits until `expedite` moves it forward.

        A request that is being reconciled is queued when it is done.
        """
        due = due or _NEVER
        due = min(due, self._expedited.pop(uid, due))
        queued = QueuedRequest(due, expires or due, namespace, next(self._serial))
        self._queued[uid] = queued
        if uid not in self._busy:
            self._queue(uid, queued)

    def expedite(self, uid: str, due: datetime) -> bool:
        """Move a request forward to `due`, unless it is due earlier; one that is being reconciled runs again.

        Returns False if there is no such request.
        """
        queued = self._queued.get(uid)
        if uid in self._busy:
            self._expedited[uid] = due
        elif queued and due < queued.due:
            self.add(uid, due, queued.expires, queued.namespace)
        return uid in self._busy or queued is not None

    def remove(self, uid: str) -> None:
        """Remove a request. A reconciliation in progress continues to its end."""
        self._queued.pop(uid, None)
        self._expedited.pop(uid, None)

    def get(self, now: datetime) -> str | None:
        """Return the request to reconcile now, if one is due and a worker is free. Call `done` afterwards."""
        in_progress = len(self._busy) - len(self._without_worker)
        # The workers that are not replaced by additional ones.
        occupied = in_progress - min(len(self._slow), (_MAX_WORKERS_FACTOR - 1) * self.workers)
        if occupied >= self.workers:
            return None
        while self._delayed and self._delayed[0][0] <= now:
            _, serial, uid = heapq.heappop(self._delayed)
            if self._is_current(serial, uid):
                queued = self._queued[uid]
                ready = self._ready.get(queued.namespace)
                if ready is None:
                    ready = self._ready[queued.namespace] = []
                    self._rounds[queued.namespace] = max(self._round, self._rounds.get(queued.namespace, 0))
                heapq.heappush(ready, (queued.expires, serial, uid, queued.namespace))
                self._offer(queued.namespace)
        shared = self.workers - self.workers // _RESERVED
        longest = self._longest_allowed() if in_progress >= 2 * self.workers else math.inf
        item = self._next(only_idle=occupied >= shared, only_short=in_progress >= shared, longest=longest)
        if item is None:
            return None
        _, _, uid, namespace = item
        del self._queued[uid]
        if uid in self._returning:
            returning, worker = self._returning.pop(uid)
            self._without_worker.discard(returning)
            self._change_load(namespace, 1, -1)
            worker.set_result(None)
            return self.get(now)
        self._busy[uid] = namespace
        self._change_load(namespace, 1, 0)
        return uid

    def free_worker(self, uid: str) -> None:
        """Release the worker of a reconciliation that may take forever. The reconciliation itself continues."""
        if uid in self._busy and uid not in self._without_worker:
            self._without_worker.add(uid)
            self._stop_timer(uid)
            self._change_load(self._busy[uid], -1, 1)
            self.changed.set()

    async def regain_worker(self, uid: str) -> None:
        """Wait, in the order of the queue, until a reconciliation that released its worker has one again."""
        if uid not in self._without_worker:
            return
        name, worker = f"{uid} returns", asyncio.get_running_loop().create_future()
        self._returning[name] = (uid, worker)
        self.add(name, _ALWAYS, _ALWAYS, self._busy[uid])
        try:
            await worker
        finally:
            self._returning.pop(name, None)
            self.remove(name)
        self.start_timer(uid)

    def start_timer(self, uid: str) -> None:
        """Measure how long a reconciliation takes, and notice if it takes long."""
        self._timers[uid] = asyncio.get_running_loop().call_later(_SLOW_SECONDS, self.note_slow, uid)

    def note_slow(self, uid: str) -> None:
        """Allow one more worker, for another namespace, because this reconciliation takes long."""
        if uid in self._busy and uid not in self._without_worker | self._slow:
            self._slow.add(uid)
            self._slow_in[self._busy[uid]] += 1
            self.changed.set()

    def _stop_timer(self, uid: str) -> None:
        """Add the time that a busy reconciliation has taken to the rounds of its namespace, and note if it was long."""
        namespace = self._busy[uid]
        if uid in self._slow:
            self._slow.discard(uid)
            self._slow_in[namespace] -= 1
            self._slow_in = +self._slow_in
        if timer := self._timers.pop(uid, None):
            timer.cancel()
            ended = asyncio.get_running_loop().time()
            seconds = ended - timer.when() + _SLOW_SECONDS
            if seconds > max(_LONG_SECONDS, self._longest_seconds(namespace)):
                self._longest[namespace] = (seconds, ended, self._next_half_life(namespace, ended))
                if len(self._longest) > _MAX_STALE_ENTRIES:
                    del self._longest[min(self._longest, key=self._longest_seconds)]
            if namespace in self._rounds:
                self._rounds[namespace] += min(seconds, _SLOW_SECONDS) / _ROUND_SECONDS

    def _longest_seconds(self, namespace: str) -> float:
        if namespace not in self._longest:
            return 0.0
        seconds, ended, half_life = self._longest[namespace]
        return seconds * float(0.5 ** ((asyncio.get_running_loop().time() - ended) / half_life))

    def _known_seconds(self, namespace: str) -> float:
        """Return how long the longest recent reconciliation took, without decay, or 0 if it no longer counts."""
        return self._longest[namespace][0] if self._longest_seconds(namespace) > _LONG_SECONDS else 0.0

    def _next_half_life(self, namespace: str, ended: float) -> float:
        """Return the half-life for a long reconciliation that ended now."""
        _, last_ended, half_life = self._longest.get(namespace, (0.0, 0.0, 0.0))
        if not half_life or ended - last_ended > _FORGOTTEN_AFTER_SECONDS:
            return _HALF_LIFE_SECONDS
        is_again = self._longest_seconds(namespace) <= _LONG_SECONDS
        return min(2 * half_life, _LONGEST_HALF_LIFE_SECONDS) if is_again else half_life

    def _is_short(self, namespace: str) -> bool:
        """Whether no reconciliation of a namespace takes long, or has taken very long recently."""
        return not self._slow_in[namespace] and self._longest_seconds(namespace) <= _LONG_SECONDS

    def _longest_allowed(self) -> float:
        """Return from how many seconds on the reconciliations of a namespace are too long for it to get a worker now.

        Shorter ones than its own do not count: many of them could keep a namespace from getting a worker at all.
        """

        def seconds(uid: str, namespace: str) -> float:
            timer, known = self._timers.get(uid), self._known_seconds(namespace)
            return max(known, asyncio.get_running_loop().time() - timer.when() + _SLOW_SECONDS) if timer else known

        busy = [seconds(uid, name) for uid, name in self._busy.items() if uid not in self._without_worker]
        full = (limit for limit, share in _SHARES if sum(it >= limit for it in busy) >= share * self.workers)
        return next(full, math.inf)

    def done(self, uid: str) -> None:
        """End a reconciliation. If the request was added during it, it is queued now."""
        self._stop_timer(uid)
        namespace = self._busy.pop(uid)
        if uid in self._without_worker:
            self._without_worker.discard(uid)
            self._change_load(namespace, 0, -1)
        else:
            self._change_load(namespace, -1, 0)
        if queued := self._queued.get(uid):
            # It may have been added before it was expedited, for example because its spec changed.
            self.add(uid, queued.due, queued.expires, queued.namespace)
        self.changed.set()

    def next_due(self) -> datetime | None:
        """Return when the next request becomes due; None if all queued requests are already due."""
        while self._delayed and not self._is_current(*self._delayed[0][1:]):
            heapq.heappop(self._delayed)
        return self._delayed[0][0] if self._delayed else None

    def counts(self) -> dict[str, int]:
        """Return the number of requests by state."""
        ready = sum(self._is_current(serial, uid) for items in self._ready.values() for _, serial, uid, _ in items)
        queued = len(self._queued.keys() - self._busy.keys())
        return {"delayed": max(0, queued - ready), "ready": ready, "in_progress": len(self._busy)}

    def _queue(self, uid: str, queued: QueuedRequest) -> None:
        heapq.heappush(self._delayed, (queued.due, queued.serial, uid))
        if len(self._delayed) > 2 * len(self._queued) + _MAX_STALE_ENTRIES:
            # Replaced entries stay in the heap until their time: a request that is often expedited would leave many.
            self._delayed = [item for item in self._delayed if self._is_current(*item[1:])]
            heapq.heapify(self._delayed)
        self.changed.set()

    def _change_load(self, namespace: str, with_worker: int, without_worker: int) -> None:
        before = self._load_of(namespace)
        load = self._loads[namespace] = (before[0] + with_worker, before[1] + without_worker)
        if not any(load):
            del self._loads[namespace]
        self._offer(namespace)

    def _load_of(self, namespace: str) -> _Load:
        return self._loads.get(namespace, (0, 0))

    def _place(self, namespace: str, item: _Waiting) -> tuple[_Load, float, _Waiting]:
        return self._load_of(namespace), self._rounds[namespace], item

    def _end_round(self, namespace: str) -> None:
        self._round = max(self._round, self._rounds[namespace])
        # At most one reconciliation behind: a namespace that begins to wait would have to wait until it has caught up.
        earliest = self._round - _SLOW_SECONDS / _ROUND_SECONDS
        self._rounds[namespace] = max(self._rounds[namespace], earliest) + 1
        if len(self._rounds) > self._most_rounds:
            # A namespace with an earlier round, or none, begins to wait in the latest round.
            kept = {
                name: round_ for name, round_ in self._rounds.items() if round_ > self._round or name in self._ready
            }
            self._rounds, self._most_rounds = kept, 2 * len(kept) + _MAX_STALE_ENTRIES

    def _offer(self, namespace: str) -> None:
        """Add the first request of a namespace to `_first`, after it or the load has changed."""
        ready = self._ready.get(namespace, [])
        while ready and not self._is_current(*ready[0][1:3]):
            heapq.heappop(ready)
        if not ready:
            self._ready.pop(namespace, None)
            return
        heapq.heappush(self._first, self._place(namespace, ready[0]))
        if len(self._first) > 2 * len(self._ready) + _MAX_STALE_ENTRIES:
            self._first = [self._place(name, items[0]) for name, items in self._ready.items()]
            heapq.heapify(self._first)

    def _next(self, *, only_idle: bool, only_short: bool, longest: float) -> _Waiting | None:
        """Remove and return the next request; entries that were replaced by another `_offer` are dropped.

        With `only_idle`, it must be of a namespace without a busy worker; with `only_short`, of such a namespace or one
        whose reconciliations are short. Its recent reconciliations took less than `longest` seconds.
        """
        # By namespace, because the same place may have been offered again for each request that became due.
        skipped: dict[str, tuple[_Load, float, _Waiting]] = {}
        try:
            return self._search(skipped, only_idle=only_idle, only_short=only_short, longest=longest)
        finally:
            for place in skipped.values():
                heapq.heappush(self._first, place)

    def _search(
        self, skipped: dict[str, tuple[_Load, float, _Waiting]], *, only_idle: bool, only_short: bool, longest: float
    ) -> _Waiting | None:
        while self._first:
            place = load, _, item = self._first[0]
            _, serial, uid, namespace = item
            ready = self._ready.get(namespace)
            is_valid = ready is not None and ready[0] is item and place == self._place(namespace, item)
            if is_valid and only_idle and load[0]:
                return None
            heapq.heappop(self._first)
            if ready is None or not is_valid:
                continue
            is_too_long = self._known_seconds(namespace) >= longest
            if is_too_long or (only_short and load[0] and not self._is_short(namespace)):
                skipped[namespace] = place
                continue
            if self._is_current(serial, uid):
                self._end_round(namespace)
                return heapq.heappop(ready)
            self._offer(namespace)
        return None

    def _is_current(self, serial: int, uid: str) -> bool:
        queued = self._queued.get(uid)
        return queued is not None and queued.serial == serial


async def run(
    work_queue: WorkQueue,
    run_one: Callable[[str], Awaitable[None]],
    now: Callable[[], datetime],
    on_clock_set: Callable[[timedelta], None],
) -> None:
    """Reconcile due requests until cancelled, each in its own task.

    Sleeps are monotonic and at most 30 s long, so setting the clock delays nothing for longer. `on_clock_set` is
    called with the step if the clock was set, because the times in the queue were computed from the earlier clock.
    """
    monotonic = asyncio.get_running_loop().time
    steps = ClockSteps(now(), monotonic())

    def read_clock() -> datetime:
        time = now()
        if step := steps.observe(time, monotonic()):
            on_clock_set(step)
        return time

    async def work(uid: str) -> None:
        work_queue.start_timer(uid)
        try:
            await run_one(uid)
        finally:
            work_queue.done(uid)

    async with asyncio.TaskGroup() as tasks:
        while True:
            work_queue.changed.clear()
            # Read once: a request that becomes due between two readings would be mistaken for one without a worker.
            time = read_clock()
            while uid := work_queue.get(time):
                tasks.create_task(work(uid))
            due = work_queue.next_due()
            wait = (due - time).total_seconds() if due else _LONGEST_SLEEP_SECONDS
            # An overdue request is waiting for a free worker: `done` ends the wait.
            seconds = min(wait, _LONGEST_SLEEP_SECONDS) if wait > 0 else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await work_queue.changed.wait()
