from datetime import timedelta

import pytest

from keyturn.core.clock import ClockSteps, measure_skew
from tests.support.cases import cases
from tests.support.dependencies import NOW, SECOND


@cases(
    "clock, steps",
    {
        "time passes": ([30, 60, 90], [0, 0, 0]),
        "set forward": ([430, 460], [400, 0]),
        "set back": ([-570, -540], [-600, 0]),
        "NTP corrections": ([32, 58, 92], [0, 0, 0]),
    },
)
def test_clock_that_is_set_is_noticed_once(clock: list[int], steps: list[int]) -> None:
    """The clock is read each 30 s of the monotonic clock."""
    watch = ClockSteps(NOW, 1000)
    observed = [watch.observe(NOW + time * SECOND, 1030 + 30 * index) for index, time in enumerate(clock)]

    assert [step.total_seconds() for step in observed] == steps


@pytest.mark.parametrize(
    "date",
    [
        None,
        "",
        "today",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2026 99999999999999999999:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
        "Mon, 01 Jan 2026 00:00:00 -0000",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ],
)
def test_skew_of_an_impossible_date_is_zero(date: str | None) -> None:
    assert measure_skew(date, NOW) == timedelta()
