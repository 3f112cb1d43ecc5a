"""How a process ends."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from keyturn.cli.process import stoppable


@pytest.fixture
def hang_up() -> Iterator[None]:
    """What SIGHUP does is put back as it was."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_up")
@pytest.mark.parametrize(("by_nohup", "ends"), [(False, True), (True, False)])
async def test_a_terminal_that_closes(*, by_nohup: bool, ends: bool) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN if by_nohup else signal.SIG_DFL)
    work = asyncio.ensure_future(stoppable(asyncio.sleep(0.2)))
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.wait({work})
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(number)

    assert work.cancelled() == ends
