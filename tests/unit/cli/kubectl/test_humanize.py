from datetime import timedelta

import pytest

from keyturn.cli.kubectl.humanize import both, relative
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND


@pytest.mark.parametrize(
    ("ahead", "says"),
    [
        pytest.param(0 * SECOND, "in 0 s", id="now"),
        pytest.param(59.9 * SECOND, "in 59 s", id="cut, not rounded: nothing is there before its time"),
        pytest.param(179 * SECOND, "in 179 s", id="seconds up to three minutes"),
        pytest.param(3 * MINUTE, "in 3 min", id="minutes"),
        pytest.param(179 * MINUTE, "in 179 min", id="minutes up to three hours"),
        pytest.param(3 * HOUR, "in 3 h", id="hours"),
        pytest.param(2 * DAY, "in 2 days", id="days"),
        pytest.param(-5 * SECOND, "5 s ago", id="past"),
        pytest.param(-400 * DAY, "400 days ago", id="long past"),
    ],
)
def test_how_far_a_moment_is_away(ahead: timedelta, says: str) -> None:
    assert relative(NOW + ahead, NOW) == says


def test_a_time_is_told_both_ways() -> None:
    assert both("2026-01-02T04:04:05Z", NOW) == "2026-01-02T04:04:05Z (in 60 min)"


@pytest.mark.parametrize("told", [None, "", "soon", "2026-01-02", "2026-01-02T04:04:05"])
def test_what_is_no_time_is_not_told(told: str | None) -> None:
    assert both(told, NOW) == ""
