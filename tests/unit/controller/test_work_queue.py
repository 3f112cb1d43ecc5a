import asyncio
import itertools
from datetime import datetime, timedelta

import pytest

from keyturn.controller.work_queue import WorkQueue, run
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND
from tests.support.work_queues import work_queue


def drain(queue: WorkQueue, now: datetime = NOW) -> list[str]:
    uids = []
    while uid := queue.get(now):
        uids.append(uid)
        queue.done(uid)
    return uids


def test_request_is_not_returned_before_it_is_due() -> None:
    queue = WorkQueue(4)
    queue.add("a", NOW + SECOND, NOW, "billing")

    assert (queue.get(NOW), queue.next_due()) == (None, NOW + SECOND)
    assert queue.get(NOW + SECOND) == "a"


def test_overdue_requests_are_ordered_by_expiration() -> None:
    queue = WorkQueue(4)
    queue.add("late", NOW - HOUR, NOW + DAY, "billing")
    queue.add("urgent", NOW, NOW + MINUTE, "billing")
    queue.add("elsewhere", NOW, NOW + HOUR, "other")

    assert drain(queue) == ["urgent", "elsewhere", "late"]


def test_equal_requests_are_first_in_first_out() -> None:
    queue = WorkQueue(4)
    for uid in "cab":
        queue.add(uid, NOW, NOW, "billing")

    assert drain(queue) == ["c", "a", "b"]


def test_free_worker_serves_the_namespace_with_the_fewest() -> None:
    queue = work_queue("a", "b", "c", "d", workers=4)
    queue.add("x", NOW, NOW + DAY, "other")

    assert [queue.get(NOW) for _ in range(5)] == ["a", "x", "b", "c", None]


def test_two_busy_namespaces_do_not_delay_a_third() -> None:
    queue = WorkQueue(4)
    for number in range(10):
        queue.add(f"a{number}", NOW, NOW, "a")
        queue.add(f"b{number}", NOW, NOW, "b")
    queue.add("x", NOW + SECOND, NOW + DAY, "other")
    busy = [queue.get(NOW) for _ in range(4)]
    queue.done("a0")

    assert busy == ["a0", "b0", "a1", "b1"]
    assert queue.get(NOW + SECOND) == "x"


def test_many_namespaces_without_credentials_alternate_with_another() -> None:
    queue, running = WorkQueue(4), list[str]()
    for number in range(10):
        queue.add(f"a{number}", NOW, NOW, f"a{number}")
    for time in range(100):
        while uid := queue.get(NOW + time * SECOND):
            running.append(uid)
        if time == 10:
            queue.add("x", NOW, NOW + DAY, "other")
        if "x" in running:
            break
        queue.done(uid := running.pop(0))
        # It failed, and is tried again immediately.
        queue.add(uid, NOW + time * SECOND, NOW + time * SECOND, uid)

    assert "x" in running
    # After the ten others, not after its own expiry.
    assert time < 25


def test_slow_reconciliations_do_not_delay_another_namespace() -> None:
    queue = work_queue("a", "b", "c", "d", workers=2)
    for uid in "xyz":
        queue.add(uid, NOW, NOW + DAY, "other")
    started = [queue.get(NOW), queue.get(NOW), queue.get(NOW)]
    queue.note_slow("a")
    assert (started, queue.get(NOW)) == (["a", "x", None], "y")
    queue.done("x")
    assert [queue.get(NOW), queue.get(NOW)] == ["z", None]


def test_slow_reconciliations_of_a_namespace_start_no_others_there() -> None:
    queue = work_queue("a", "b", "c", "d", workers=2)
    assert [queue.get(NOW), queue.get(NOW)] == ["a", "b"]
    for uid in ("a", "b"):
        queue.note_slow(uid)
    queue.add("x", NOW, NOW + DAY, "other")
    assert [queue.get(NOW), queue.get(NOW)] == ["x", None]
    queue.done("x")
    queue.done("a")
    assert [queue.get(NOW), queue.get(NOW)] == ["c", None]


def test_slow_reconciliations_at_most_quadruple_the_workers() -> None:
    queue = WorkQueue(2)
    for name in "abcdefghij":
        queue.add(name, NOW, NOW, name)
    started = []
    while uid := queue.get(NOW):
        started.append(uid)
        queue.note_slow(uid)

    assert started == list("abcdefgh")


def test_namespace_gets_all_workers_while_no_other_waits() -> None:
    queue = work_queue("a", "b", "c", "d", "e", workers=4)

    assert [queue.get(NOW) for _ in range(5)] == ["a", "b", "c", "d", None]


def test_single_namespace_never_occupies_all_of_many_workers() -> None:
    queue = work_queue(*(f"a{number}" for number in range(20)), workers=16)
    busy = [queue.get(NOW) for _ in range(15)]
    queue.add("x", NOW, NOW + DAY, "other")
    queue.add("y", NOW, NOW + DAY, "another")

    assert busy == [*(f"a{number}" for number in range(14)), None]
    assert [queue.get(NOW) for _ in range(3)] == ["x", "y", None]
    queue.done("a0")
    assert queue.get(NOW) is None
    queue.done("x")
    queue.done("y")
    assert [queue.get(NOW) for _ in range(2)] == ["a14", None]


def test_two_namespaces_share_two_workers() -> None:
    queue = WorkQueue(2)
    for number in range(3):
        queue.add(f"a{number}", NOW, NOW + SECOND, "a")
        queue.add(f"b{number}", NOW, NOW + HOUR, "b")
    first = [queue.get(NOW) for _ in range(3)]
    queue.done("b0")

    assert first == ["a0", "b0", None]
    assert queue.get(NOW) == "b1"


def test_parked_requests_continue_after_a_removal() -> None:
    queue = work_queue("a", "b", "c", "d", workers=2)
    for number in range(3):
        queue.add(f"x{number}", NOW, NOW + DAY, "other")
    first = [queue.get(NOW), queue.get(NOW)]
    queue.done("a")
    queue.remove("b")
    second = queue.get(NOW)
    queue.done("x0")
    queue.done("c")

    assert (first, second) == (["a", "x0"], "c")
    assert drain(queue) == ["x1", "d", "x2"]


def test_request_added_during_reconciliation_runs_after_it() -> None:
    queue = work_queue("a")
    queue.get(NOW)
    queue.add("a", NOW, NOW, "billing")
    during = queue.get(NOW)
    queue.done("a")

    assert (during, queue.get(NOW)) == (None, "a")


def test_added_request_replaces_its_overdue_place() -> None:
    queue = work_queue("a", "b", workers=1)
    queue.get(NOW)
    queue.add("b", NOW + HOUR, NOW + DAY, "billing")
    queue.done("a")

    assert (queue.get(NOW), queue.next_due()) == (None, NOW + HOUR)


@pytest.mark.parametrize(
    ("due", "expedited", "uid"),
    [
        pytest.param(NOW + HOUR, NOW, "a", id="moved forward"),
        pytest.param(NOW + HOUR, NOW + MINUTE, None, id="moved forward, still not due"),
        pytest.param(NOW, NOW + HOUR, "a", id="not moved backward"),
    ],
)
def test_expedite_moves_a_request_only_forward(due: datetime, expedited: datetime, uid: str | None) -> None:
    queue = WorkQueue(4)
    queue.add("a", due, NOW + DAY, "billing")
    queue.expedite("a", expedited)

    assert queue.get(NOW) == uid


@pytest.mark.parametrize(
    ("reconciliations", "uid"),
    [pytest.param(1, "a", id="the next one"), pytest.param(2, None, id="not the one after it")],
)
def test_expedited_request_in_progress_runs_again_once(reconciliations: int, uid: str | None) -> None:
    queue = work_queue("a")
    queue.get(NOW)
    for expedited in ("a", "unknown"):
        queue.expedite(expedited, NOW)
    for _ in range(reconciliations):
        queue.add("a", NOW + HOUR, NOW + DAY, "billing")
    queue.done("a")

    assert queue.get(NOW) == uid


def test_request_that_was_changed_and_then_expedited_runs_when_it_is_done() -> None:
    """For example, the spec was edited during an exchange, and then the clock was set back."""
    queue = work_queue("a")
    queue.get(NOW)
    queue.add("a", NOW + HOUR, NOW + DAY, "billing")
    queue.expedite("a", NOW)
    queue.done("a")

    assert queue.get(NOW) == "a"


def test_removed_request_is_not_returned() -> None:
    queue = work_queue("a", "b")
    queue.remove("a")

    assert drain(queue) == ["b"]


def test_request_removed_during_reconciliation_does_not_return() -> None:
    queue = work_queue("a")
    queue.get(NOW)
    queue.expedite("a", NOW)
    queue.remove("a")
    queue.done("a")
    after_removal = (queue.get(NOW), queue.next_due())
    queue.add("a", NOW + HOUR, NOW + DAY, "billing")

    assert after_removal == (None, None)
    assert queue.get(NOW) is None


def test_replaced_entries_do_not_accumulate() -> None:
    queue = WorkQueue(4)
    for number in range(10_000):
        queue.add("a", NOW + DAY - number * SECOND, NOW + DAY, "billing")

    assert len(queue._delayed) <= 1002


def test_replaced_first_requests_do_not_accumulate() -> None:
    queue = WorkQueue(1)
    queue.add("busy", NOW, NOW, "other")
    running = queue.get(NOW)
    for number in range(10_000):
        queue.add(f"a{number}", NOW, NOW + DAY - number * SECOND, "billing")
        queue.done(running or "")
        queue.add("busy", NOW, NOW, "other")
        running = queue.get(NOW)

    assert len(queue._first) <= 1010


def test_rounds_of_former_namespaces_do_not_accumulate() -> None:
    queue = WorkQueue(1)
    for number in range(10_000):
        queue.add("a", NOW, NOW, f"namespace-{number}")
        drain(queue)
        queue.add("b", NOW, NOW, "billing")
        drain(queue)

    assert len(queue._rounds) <= 1010


def test_counts_by_state() -> None:
    queue = work_queue("a", "b", workers=1)
    queue.add("c", NOW + HOUR, NOW + DAY, "billing")
    queue.get(NOW)

    assert queue.counts() == {"delayed": 1, "ready": 1, "in_progress": 1}


def test_request_whose_worker_was_freed_delays_no_other() -> None:
    queue = work_queue("a", "b", "c", workers=1)
    assert queue.get(NOW) == "a"
    queue.free_worker("a")
    queue.add("a", NOW, NOW, "billing")

    # It is still being reconciled itself, until it is done.
    assert (queue.get(NOW), queue.get(NOW)) == ("b", None)
    queue.done("a")
    assert queue.get(NOW) is None
    queue.done("b")
    assert drain(queue) == ["a", "c"]


def test_worker_is_freed_only_during_a_reconciliation() -> None:
    queue = work_queue("a", "b", workers=1)
    queue.free_worker("a")

    assert (queue.get(NOW), queue.get(NOW)) == ("a", None)


async def test_freed_workers_are_regained_one_by_one() -> None:
    queue = work_queue("a", "b", "c", workers=1)
    for uid in ("a", "b"):
        assert queue.get(NOW) == uid
        queue.free_worker(uid)
    returning = [asyncio.create_task(queue.regain_worker(uid)) for uid in ("a", "b")]
    await asyncio.sleep(0)

    # One worker for one of the two, which goes before a request of the same namespace that has not begun.
    assert queue.get(NOW) is None
    await asyncio.sleep(0)
    assert [task.done() for task in returning] == [True, False]
    queue.done("a")
    assert queue.get(NOW) is None
    await asyncio.gather(*returning)
    queue.done("b")
    assert drain(queue) == ["c"]


async def test_regained_workers_do_not_delay_another_namespace() -> None:
    queue = work_queue("a", "b", workers=1)
    for uid in ("a", "b"):
        assert queue.get(NOW) == uid
        queue.free_worker(uid)
    returning = [asyncio.create_task(queue.regain_worker(uid)) for uid in ("a", "b")]
    await asyncio.sleep(0)
    queue.add("x", NOW, NOW + DAY, "other")

    assert queue.get(NOW) == "x"
    for task in returning:
        task.cancel()
    await asyncio.wait(returning)
    queue.done("x")
    assert queue.get(NOW) is None


async def test_namespace_without_workers_regains_one_from_a_busy_namespace() -> None:
    queue = work_queue("a", "b", "c", "d", workers=4)
    for _ in range(4):
        queue.free_worker(queue.get(NOW) or "")
    for uid in "vwxyz":
        queue.add(uid, NOW, NOW, "other")
    busy = [queue.get(NOW) for _ in range(4)]
    returning = [asyncio.create_task(queue.regain_worker(uid)) for uid in "abcd"]
    await asyncio.sleep(0)
    queue.done("v")

    assert (busy, queue.get(NOW)) == (["v", "w", "x", "y"], None)
    await asyncio.sleep(0)
    assert [task.done() for task in returning] == [True, False, False, False]
    # From now on, each namespace has a share.
    for uid in "wx":
        queue.done(uid)
        queue.get(NOW)
    await asyncio.sleep(0)
    assert [task.done() for task in returning] == [True, True, False, False]
    for task in returning:
        task.cancel()
    await asyncio.wait(returning)


async def test_worker_that_was_not_freed_is_not_waited_for() -> None:
    queue = work_queue("a", workers=1)
    assert queue.get(NOW) == "a"

    await queue.regain_worker("a")


async def test_request_that_becomes_due_while_the_queue_is_searched_is_run() -> None:
    queue, is_run = WorkQueue(4), asyncio.Event()
    # The second reading of the clock is before it is due, the third one is after it.
    queue.add("a", NOW + timedelta(milliseconds=1.5), NOW + HOUR, "billing")
    times = (NOW + timedelta(milliseconds=number) for number in itertools.count())

    async def run_one(_: str) -> None:
        is_run.set()

    running = asyncio.create_task(run(queue, run_one, lambda: next(times), lambda _: None))
    async with asyncio.timeout(5):
        await is_run.wait()
    running.cancel()
