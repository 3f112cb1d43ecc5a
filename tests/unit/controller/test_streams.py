import asyncio
import logging

import pytest

from keyturn.controller.streams import Backoff, Boundary, Breaks
from keyturn.core.errors import UnavailableError
from keyturn.metrics import Metrics


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_errors_are_logged_once_a_minute_and_unexpected_ones_counted(caplog: pytest.LogCaptureFixture) -> None:
    metrics, clock = Metrics(), Clock()
    boundary = Boundary("lease", "keeping the Lease", metrics, clock)
    for error in (UnavailableError("Unavailable", "HTTP 503"), KeyError("planted"), ValueError("planted")):
        boundary.report(error)
    clock.seconds += 60
    boundary.report(KeyError("planted"))

    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]
    assert caplog.messages[0] == "keeping the Lease broke (HTTP 503); retrying"
    assert "KeyError" in caplog.messages[1]
    assert "planted" not in caplog.text
    assert metrics.internal_errors.labels("lease")._value.get() == 3


def test_pause_grows_until_the_stream_works_again() -> None:
    clock = Clock()
    backoff, pauses = Backoff(clock), []
    for seconds in (0, 1, 5, 5, 5, 5, 31, 0):
        clock.seconds += seconds
        pauses.append(backoff.next_pause())
        clock.seconds += pauses[-1]

    assert pauses == [1, 2, 4, 8, 16, 30, 1, 2]


def test_pause_after_a_lost_connection_is_shorter() -> None:
    backoff = Backoff(Clock())

    assert [backoff.next_pause(5.0) for _ in range(5)] == [1, 2, 4, 5, 5]


async def test_break_is_taken_after_some_milliseconds() -> None:
    clock, order = Clock(), list[str]()
    breaks = Breaks(clock)

    async def work() -> None:
        while True:
            order.append("work")
            await asyncio.sleep(0)

    working = asyncio.create_task(work())
    for _ in range(6):
        clock.seconds += 0.002
        order.append("object")
        await breaks.take()
    working.cancel()

    assert order == [*(3 * ["object"]), "work", *(3 * ["object"]), "work"]
