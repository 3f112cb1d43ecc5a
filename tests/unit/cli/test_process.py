import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from keyturn.cli.process import handle_signals, log_to_stderr, stoppable

BLOCKED = """
import asyncio, time
from keyturn.cli.process import run_until_stopped

async def work():
    print("started", flush=True)
    await asyncio.to_thread(time.sleep, 60)

asyncio.run(run_until_stopped(work()))
"""

CANCELLED = """
import asyncio
from keyturn.cli.process import run_until_stopped

async def work():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)

asyncio.run(run_until_stopped(work()))
"""


@pytest.fixture
def _sighup() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_sighup")
@pytest.mark.parametrize(
    ("handler", "is_stopped"),
    [pytest.param(signal.SIG_DFL, True, id="terminal"), pytest.param(signal.SIG_IGN, False, id="nohup")],
)
async def test_sighup_stops_a_process_that_does_not_ignore_it(handler: signal.Handlers, *, is_stopped: bool) -> None:
    signal.signal(signal.SIGHUP, handler)
    work = asyncio.ensure_future(stoppable(asyncio.sleep(0.2)))
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.wait({work})
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(number)

    assert work.cancelled() == is_stopped


@pytest.mark.usefixtures("_sighup")
async def test_second_call_replaces_the_action_of_each_signal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    numbers, calls = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP), list[str]()
    handle_signals(lambda: calls.append("first"))
    handle_signals(lambda: calls.append("second"))
    for number in numbers:
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.05)
    for number in numbers:
        asyncio.get_running_loop().remove_signal_handler(number)

    assert calls == ["second"] * len(numbers)


def test_sigterm_ends_a_process_with_a_thread_that_hangs() -> None:
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", BLOCKED], stdout=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        process.terminate()
        try:
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()


def test_cancellation_without_a_signal_is_no_success() -> None:
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", CANCELLED], capture_output=True, text=True, env=variables, check=False
    )

    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, "asyncio.exceptions.CancelledError")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_message_of_aws_is_not_logged(
    log_format: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log_to_stderr("info", log_format)
    logging.getLogger("botocore.credentials").warning("refreshing %s failed", "them", exc_info=ValueError("planted"))
    output = capsys.readouterr().err

    assert "refreshing them failed (ValueError)" in output
    assert "planted" not in output


def test_process_without_stdout_exits_with_its_code() -> None:
    command = 'exec "$0" -c "from keyturn.cli.process import exit_immediately; exit_immediately(0)" >&-'
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable], stderr=subprocess.PIPE, text=True, env=variables, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
