from datetime import UTC, datetime, timedelta, timezone

import pytest

from keyturn.api.times import duration, read_time, rfc3339, whole
from tests.support.dependencies import HOUR, MINUTE, NOW, SECOND


def test_whole_is_utc_without_a_fraction() -> None:
    berlin = timezone(timedelta(hours=1))

    assert whole(datetime(2026, 1, 2, 4, 4, 5, 999999, berlin)).isoformat() == "2026-01-02T03:04:05+00:00"


def test_times_have_a_z_and_whole_seconds() -> None:
    assert rfc3339(datetime(2026, 1, 2, 3, 4, 5, 999999, tzinfo=UTC)) == "2026-01-02T03:04:05Z"


def test_what_was_written_is_read() -> None:
    assert read_time(rfc3339(NOW)) == NOW


@pytest.mark.parametrize("told", [None, "", "soon", "2026-01-02", "2026-01-02T04:04:05"])
def test_what_is_no_time_is_not_read(told: str | None) -> None:
    assert read_time(told) is None


@pytest.mark.parametrize(
    ("text", "means"),
    [
        pytest.param("20m", 20 * MINUTE, id="one unit"),
        pytest.param("1h30m", 90 * MINUTE, id="two units"),
        pytest.param("2h0m5s", 2 * HOUR + 5 * SECOND, id="three units"),
    ],
)
def test_a_duration_is_read(text: str, means: timedelta) -> None:
    assert duration(text) == means
