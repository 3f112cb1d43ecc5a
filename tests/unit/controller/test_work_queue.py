from datetime import datetime

import pytest

from keyturn.controller.work_queue import WorkQueue
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND
from tests.support.work_queues import work_queue


def take_all(made: WorkQueue, now: datetime = NOW) -> list[str]:
    taken = []
    while uid := made.get(now):
        taken.append(uid)
        made.done(uid)
    return taken


def test_nothing_is_taken_before_its_time() -> None:
    made = WorkQueue(4)
    made.add("a", NOW + SECOND, NOW, "billing")

    assert (made.get(NOW), made.next_due()) == (None, NOW + SECOND)
    assert made.get(NOW + SECOND) == "a"


def test_among_the_overdue_the_soonest_to_expire_goes_first() -> None:
    made = WorkQueue(4)
    made.add("late", NOW - HOUR, NOW + DAY, "billing")
    made.add("urgent", NOW, NOW + MINUTE, "billing")
    made.add("elsewhere", NOW, NOW + HOUR, "other")

    assert take_all(made) == ["urgent", "elsewhere", "late"]


def test_equals_go_in_the_order_in_which_they_came() -> None:
    made = WorkQueue(4)
    for uid in "cab":
        made.add(uid, NOW, NOW, "billing")

    assert take_all(made) == ["c", "a", "b"]


def test_no_more_are_taken_than_there_are_workers() -> None:
    made = work_queue("a", "b", "c", workers=2)

    assert [made.get(NOW) for _ in range(3)] == ["a", "b", None]


def test_a_namespace_has_half_of_the_workers_while_others_wait() -> None:
    made = work_queue("a", "b", "c", "d", workers=4)
    made.add("x", NOW, NOW + DAY, "other")

    assert [made.get(NOW) for _ in range(5)] == ["a", "b", "x", "c", None]


def test_a_namespace_has_all_workers_while_nobody_else_waits() -> None:
    made = work_queue("a", "b", "c", "d", "e", workers=4)

    assert [made.get(NOW) for _ in range(5)] == ["a", "b", "c", "d", None]


def test_two_namespaces_with_their_share_leave_no_worker_to_either() -> None:
    made = WorkQueue(2)
    for number in range(3):
        made.add(f"a{number}", NOW, NOW + SECOND, "a")
        made.add(f"b{number}", NOW, NOW + HOUR, "b")
    first = [made.get(NOW) for _ in range(3)]
    made.done("b0")

    assert first == ["a0", "b0", None]
    assert made.get(NOW) == "b1"


def test_those_beyond_their_share_go_on_when_the_one_before_them_has_left() -> None:
    made = work_queue("a", "b", "c", "d", workers=2)
    for number in range(3):
        made.add(f"x{number}", NOW, NOW + DAY, "other")
    first = [made.get(NOW), made.get(NOW)]
    made.done("a")
    made.remove("b")
    second = made.get(NOW)
    made.done("x0")
    made.done("c")

    assert (first, second) == (["a", "x0"], "c")
    assert take_all(made) == ["d", "x1", "x2"]


def test_a_request_that_is_looked_at_is_not_taken_again() -> None:
    made = work_queue("a")
    made.get(NOW)
    made.add("a", NOW, NOW, "billing")

    assert made.get(NOW) is None


def test_a_place_given_during_a_look_counts_after_it() -> None:
    made = work_queue("a")
    made.get(NOW)
    made.add("a", NOW, NOW, "billing")
    made.done("a")

    assert made.get(NOW) == "a"


def test_a_new_place_replaces_the_old_one() -> None:
    made = work_queue("a")
    made.add("a", NOW + HOUR, NOW + DAY, "billing")

    assert (made.get(NOW), made.next_due()) == (None, NOW + HOUR)


def test_a_new_place_replaces_one_that_was_overdue() -> None:
    made = work_queue("a", "b", workers=1)
    made.get(NOW)
    made.add("b", NOW + HOUR, NOW + DAY, "billing")
    made.done("a")

    assert made.get(NOW) is None


@pytest.mark.parametrize(
    ("due", "expedited", "taken"),
    [
        pytest.param(NOW + HOUR, NOW, "a", id="forward"),
        pytest.param(NOW + HOUR, NOW + MINUTE, None, id="forward, not far enough"),
        pytest.param(NOW, NOW + HOUR, "a", id="never backward"),
    ],
)
def test_hurry(due: datetime, expedited: datetime, taken: str | None) -> None:
    made = WorkQueue(4)
    made.add("a", due, NOW + DAY, "billing")
    made.expedite("a", expedited)

    assert made.get(NOW) == taken


def test_a_busy_one_that_is_hurried_is_looked_at_again() -> None:
    made = work_queue("a")
    made.get(NOW)
    made.expedite("a", NOW)
    made.add("a", NOW + HOUR, NOW + DAY, "billing")
    made.done("a")

    assert made.get(NOW) == "a"


def test_a_hurry_is_for_one_look() -> None:
    made = work_queue("a")
    made.get(NOW)
    made.expedite("a", NOW)
    for _ in range(2):
        made.add("a", NOW + HOUR, NOW + DAY, "billing")
    made.done("a")

    assert made.get(NOW) is None


def test_what_is_not_on_the_agenda_cannot_be_hurried() -> None:
    made = WorkQueue(4)
    made.expedite("a", NOW)

    assert made.get(NOW) is None


def test_what_is_removed_is_not_taken() -> None:
    made = work_queue("a", "b")
    made.remove("a")

    assert take_all(made) == ["b"]


def test_what_is_removed_during_a_look_does_not_come_back() -> None:
    made = work_queue("a")
    made.get(NOW)
    made.expedite("a", NOW)
    made.remove("a")
    made.done("a")
    gone = (made.get(NOW), made.next_due())
    made.add("a", NOW + HOUR, NOW + DAY, "billing")

    assert gone == (None, None)
    assert made.get(NOW) is None


def test_who_is_hurried_often_leaves_nothing_behind() -> None:
    made = WorkQueue(4)
    for number in range(10_000):
        made.add("a", NOW + DAY - number * SECOND, NOW + DAY, "billing")

    assert len(made._delayed) <= 1002


def test_counts() -> None:
    made = work_queue("a", "b", workers=1)
    made.add("c", NOW + HOUR, NOW + DAY, "billing")
    made.get(NOW)

    assert made.counts() == {"delayed": 1, "ready": 1, "in_progress": 1}
