from datetime import timedelta

import pytest

from keyturn.api.times import human_duration
from keyturn.cli.kubectl.humanize import absolute_and_relative, relative
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        pytest.param(0 * SECOND, "0s", id="zero"),
        pytest.param(59.9 * SECOND, "59s", id="truncated, not rounded"),
        pytest.param(MINUTE, "1m", id="one minute"),
        pytest.param(5 * MINUTE - SECOND, "4m59s", id="minutes and seconds"),
        pytest.param(12 * HOUR - SECOND, "11h59m", id="hours and minutes"),
        pytest.param(HOUR + SECOND, "1h", id="a zero unit is skipped"),
        pytest.param(2 * DAY - HOUR, "47h", id="hours up to two days"),
        pytest.param(2 * DAY + 3 * HOUR, "2d3h", id="days and hours"),
        pytest.param(400 * DAY, "400d", id="many days"),
    ],
)
def test_duration_has_its_two_largest_units(duration: timedelta, text: str) -> None:
    assert human_duration(duration) == text


@pytest.mark.parametrize(
    ("ahead", "text"), [(5 * MINUTE, "in 5m"), (0 * SECOND, "in 0s"), (-5 * SECOND, "5s ago")], ids=str
)
def test_time_is_relative_to_now(ahead: timedelta, text: str) -> None:
    assert relative(NOW + ahead, NOW) == text


def test_status_time_is_absolute_and_relative() -> None:
    assert absolute_and_relative("2026-01-02T04:04:05Z", NOW) == "2026-01-02T04:04:05Z (in 1h)"


@pytest.mark.parametrize("text", [None, "", "soon", "2026-01-02", "2026-01-02T04:04:05"])
def test_invalid_time_is_empty(text: str | None) -> None:
    assert absolute_and_relative(text, NOW) == ""
