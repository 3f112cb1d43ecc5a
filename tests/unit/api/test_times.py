from datetime import UTC, datetime, timedelta, timezone

import pytest

from keyturn.api.times import duration, human_duration, read_time, rfc3339, whole_seconds
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND


def test_whole_truncates_and_converts_to_utc() -> None:
    berlin = timezone(timedelta(hours=1))

    assert whole_seconds(datetime(2026, 1, 2, 4, 4, 5, 999999, berlin)).isoformat() == "2026-01-02T03:04:05+00:00"


def test_rfc3339_writes_whole_seconds_and_a_z() -> None:
    assert rfc3339(datetime(2026, 1, 2, 3, 4, 5, 999999, tzinfo=UTC)) == "2026-01-02T03:04:05Z"


def test_read_time_reads_what_rfc3339_writes() -> None:
    assert read_time(rfc3339(NOW)) == NOW


@pytest.mark.parametrize("text", [None, "", "soon", "2026-01-02", "2026-01-02T04:04:05"])
def test_read_time_returns_none_for_an_invalid_time(text: str | None) -> None:
    assert read_time(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("20m", 20 * MINUTE, id="one unit"),
        pytest.param("1h30m", 90 * MINUTE, id="two units"),
        pytest.param("2h0m5s", 2 * HOUR + 5 * SECOND, id="three units"),
        pytest.param("0h5s", 5 * SECOND, id="zero hours"),
    ],
)
def test_duration_is_parsed(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize(
    ("span", "text"),
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
def test_human_duration_has_the_two_largest_units(span: timedelta, text: str) -> None:
    assert human_duration(span) == text
