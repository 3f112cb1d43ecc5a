from datetime import timedelta

import pytest

from keyturn.cli.kubectl.humanize import absolute_and_relative, relative
from tests.support.dependencies import MINUTE, NOW, SECOND


@pytest.mark.parametrize(
    ("ahead", "text"), [(5 * MINUTE, "in 5m"), (0 * SECOND, "in 0s"), (-5 * SECOND, "5s ago")], ids=str
)
def test_time_is_relative_to_now(ahead: timedelta, text: str) -> None:
    assert relative(NOW + ahead, NOW) == text


def test_status_time_is_absolute_and_relative() -> None:
    assert absolute_and_relative("2026-01-02T04:04:05Z", NOW) == "2026-01-02T04:04:05Z (in 1h)"


@pytest.mark.parametrize("text", [None, "soon"])
def test_invalid_time_is_empty(text: str | None) -> None:
    assert absolute_and_relative(text, NOW) == ""
