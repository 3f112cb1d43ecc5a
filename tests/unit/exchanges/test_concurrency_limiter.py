import heapq
import itertools
from collections import defaultdict

import pytest

from keyturn.exchanges.rate_limit import ConcurrencyLimiter, ConcurrencyLimiters


class Resumed(list[str]):
    """The uids of the calls that were invited."""

    def resume(self, uid: str) -> bool:
        self.append(uid)
        return not uid.startswith("deleted")


def fill(limiter: ConcurrencyLimiter, *namespaces: str) -> list[float]:
    """Acquire a call for each, with a uid of its own, and return the waits."""
    return [limiter.acquire(0.0, namespace, f"{namespace}-{number}") for number, namespace in enumerate(namespaces)]


def test_concurrency_limit_allows_its_number_of_calls() -> None:
    limiter = ConcurrencyLimiter(2)
    waits = fill(limiter, "billing", "billing", "billing")
    limiter.release(1.0, 1.0, "billing")

    assert [wait > 0 for wait in waits] == [False, False, True]
    assert limiter.acquire(1.0, "billing", "billing-2") == 0


def test_calls_above_the_concurrency_limit_return_one_after_the_other() -> None:
    assert fill(ConcurrencyLimiter(2), *["billing"] * 6) == [0, 0, 0.5, 1.0, 1.5, 2.0]


def test_return_follows_the_duration_of_recent_calls() -> None:
    limiter = ConcurrencyLimiter(1)
    for _ in range(50):
        limiter.acquire(0.0, "billing", "a")
        limiter.release(0.0, 4.0, "billing")
    limiter.acquire(0.0, "billing", "a")

    assert limiter.acquire(0.0, "billing", "b") == pytest.approx(4.0, rel=0.01)


def test_return_takes_at_most_30_seconds() -> None:
    assert max(fill(ConcurrencyLimiter(1), *["billing"] * 1000)) == 30


def test_call_that_repeats_exchanges_returns_after_its_pause() -> None:
    resumed = Resumed()
    limiter = ConcurrencyLimiter(1, resumed.resume)
    fill(limiter, "billing")

    assert limiter.acquire(0.0, "web", "web-0", 10.0) == 10.0
    limiter.release(9.7, 9.7, "billing")
    # Its slot is kept, but it is not resumed before its time.
    assert limiter.acquire(9.8, "billing", "billing-0") > 0
    assert (limiter.acquire(10.0, "web", "web-0", 10.0), resumed) == (0, [])


def test_namespaces_alternate_when_calls_end() -> None:
    resumed = Resumed()
    limiter = ConcurrencyLimiter(1, resumed.resume)
    fill(limiter, "a", "a", "a", "b", "b", "c")
    for number in range(5):
        limiter.release(number, 1.0, (["a"] + [uid[0] for uid in resumed])[number])
        limiter.acquire(number, resumed[number][0], resumed[number])

    assert resumed == ["a-1", "b-3", "c-5", "a-2", "b-4"]


def test_slot_is_kept_for_an_invited_call() -> None:
    limiter = ConcurrencyLimiter(1)
    fill(limiter, "a", "b")
    limiter.release(1.0, 1.0, "a")

    assert limiter.acquire(1.1, "a", "a-0") > 0
    assert limiter.acquire(1.2, "b", "b-1") == 0


def test_slot_of_a_call_that_does_not_come_back_is_not_kept() -> None:
    limiter = ConcurrencyLimiter(1)
    fill(limiter, "a", "b")
    limiter.release(1.0, 1.0, "a")

    assert limiter.acquire(3.1, "a", "a-0") == 0


def test_namespace_without_a_call_starts_one_above_the_limit() -> None:
    resumed = Resumed()
    limiter = ConcurrencyLimiter(1, resumed.resume, 3)
    waits = fill(limiter, "a", "b", "b", "c", "d")
    limiter.release(1.0, 1.0, "b")

    assert [wait > 0 for wait in waits] == [False, False, True, False, True]
    assert resumed == ["b-2"]
    assert limiter.acquire(1.0, "b", "b-2") == 0


def test_no_slot_is_kept_for_a_deleted_request() -> None:
    resumed = Resumed()
    limiter = ConcurrencyLimiter(1, resumed.resume)
    fill(limiter, "a", "deleted", "deleted", "b")
    limiter.release(1.0, 1.0, "a")

    assert resumed == ["deleted-1", "b-3"]
    assert limiter.acquire(1.1, "b", "b-3") == 0


@pytest.mark.parametrize("busy", [1, 2, 5])
def test_namespaces_with_many_calls_do_not_delay_another(busy: int) -> None:
    """Each of them has 200 TokenRequests that are due again 10 s after a call of 0.2 s."""
    numbers, waits = itertools.count(), list[float]()
    events = [(number / 1000, next(numbers), f"{number % busy}", f"a-{number}") for number in range(200 * busy)]
    events += [(60.0 * minute, next(numbers), "other", f"x-{minute}") for minute in range(1, 10)]
    heapq.heapify(events)
    planned: defaultdict[str, float] = defaultdict(float, {uid: due for due, _, _, uid in events})
    namespaces = {uid: namespace for _, _, namespace, uid in events}
    now = 0.0

    def plan(due: float, uid: str) -> bool:
        planned[uid] = due
        heapq.heappush(events, (due, next(numbers), namespaces[uid], uid))
        return True

    limiter = ConcurrencyLimiter(2, lambda uid: plan(now, uid))
    while events and events[0][0] < 660:
        now, _, namespace, uid = heapq.heappop(events)
        if uid.startswith("end "):
            limiter.release(now, 0.2, namespace)
        elif now == planned[uid]:
            if wait := limiter.acquire(now, namespace, uid):
                plan(now + max(wait, 1), uid)
                continue
            heapq.heappush(events, (now + 0.2, next(numbers), namespace, f"end {uid}"))
            if namespace == "other":
                waits.append(now % 60)
            else:
                plan(now + 10.2, uid)

    assert len(waits) == 9
    assert max(waits) < 0.2 * (busy + 2)


def test_unused_limiters_are_dropped() -> None:
    limiters = ConcurrencyLimiters(1, lambda _: True)
    for endpoint in ("used", "waiting", "unused"):
        limiters.get(endpoint).acquire(0.0, "billing", "a")
    limiters.get("waiting").acquire(0.0, "billing", "b")
    for endpoint in ("waiting", "unused"):
        limiters.get(endpoint).release(1.0, 1.0, "billing")
    limiters.drop_unused(1.0)
    after_a_second = len(limiters)
    limiters.drop_unused(100.0)

    assert (after_a_second, len(limiters)) == (2, 1)
