"""Signals, however many, neither end nor shorten the save of a token that was received."""

import functools
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.cases import cases
from tests.support.emulator.client import Emulator
from tests.support.processes import RestartableProcess, until
from tests.support.standalone_process import StandaloneDirectory

ALWAYS_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT)
# A process ignores those that its parent ignores: a shell starts background commands with SIGQUIT ignored.
OTHERS = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU)
SIGNALS = (*ALWAYS_HANDLED, *(number for number in OTHERS if signal.getsignal(number) is not signal.SIG_IGN))
Command = Callable[[StandaloneDirectory], list[str]]


def run(directory: StandaloneDirectory) -> list[str]:
    return [sys.executable, "-m", "keyturn", "run", *directory.flags("write", "state")]


def sidecar(directory: StandaloneDirectory) -> list[str]:
    ports = ["--listen=127.0.0.1:0", "--http-bind-address=127.0.0.1:0"]
    flags = [*directory.flags("state"), f"--authorization-file={directory.path / 'token'}", *ports]
    return [sys.executable, "-m", "keyturn", "sidecar", "--mode=standalone", *flags]


def run_once(directory: StandaloneDirectory) -> list[str]:
    return directory.run_once_command("state")


@contextmanager
def in_exchange(directory: StandaloneDirectory, aws: Emulator, command: list[str]) -> Iterator[RestartableProcess]:
    """Start a process whose first token was sent, and whose response is delayed."""
    calls = aws.calls("oauth:token")
    aws.fault("oauth:token", delay_seconds=2)
    process = RestartableProcess(command, directory.log_file)
    process.spawn()
    try:
        until(lambda: aws.calls("oauth:token") > calls)
        yield process
    finally:
        process.kill()


def has_reported(process: RestartableProcess, times: int) -> bool:
    """Whether the log shows this many times what a kill would lose."""
    return process.log().count("SIGKILL") >= times


@cases(
    "command, exit_code",
    {"run": (run, 0), "run --once": (run_once, 1), "sidecar --mode standalone": (sidecar, 0)},
)
def test_signals_do_not_end_the_save_of_a_token(
    command: Command, exit_code: int, directory: StandaloneDirectory, aws: Emulator
) -> None:
    first_token = directory.write_rotating()
    with in_exchange(directory, aws, command(directory)) as process:
        # Nobody can write a file where there is a directory, not even root.
        reserved = directory.path / "state" / "..source-keyturn.reserved"
        reserved.unlink()
        reserved.mkdir()
        until(lambda: "is not saved yet" in process.log())
        for count, number in enumerate(SIGNALS, 1):
            process.process.send_signal(number)
            until(functools.partial(has_reported, process, count))
        with pytest.raises(subprocess.TimeoutExpired):
            process.process.wait(timeout=1)
        reserved.rmdir()
        assert process.process.wait(timeout=20) == exit_code
        log = process.log()
    after = directory.run_once("state")

    assert "Secret default/source-keyturn" in log
    assert log.count("SIGKILL") == len(SIGNALS)
    assert not [secret for secret in aws.secrets() if secret in log]
    assert after.returncode == 0, after.stderr
    assert (aws.family(first_token).consumed, aws.family(first_token).reuses) == ([0, 1], 0)


def test_save_ends_if_the_state_directory_is_gone(directory: StandaloneDirectory, aws: Emulator) -> None:
    directory.write_rotating()
    with in_exchange(directory, aws, run_once(directory)) as process:
        shutil.rmtree(directory.path / "state")

        assert process.process.wait(timeout=20) == 1
        assert "state no longer exists; sign in again (keyturn login)" in process.log()
