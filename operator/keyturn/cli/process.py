"""Process setup and exit: random numbers, logging, signals and exit codes."""

import asyncio
import atexit
import gc
import logging
import os
import random  # noqa: TID251 - the real random numbers
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from keyturn.cli.terminal import printable

Result = TypeVar("Result")
rand = random.random
# All except those that report a fault of the process itself, such as SIGSEGV. Python ignores SIGPIPE and SIGXFSZ.
_OTHER_ENDING_SIGNALS = {
    *("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM"),
    *("SIGPROF", "SIGIO", "SIGPWR", "SIGXCPU", "SIGSTKFLT"),
}


def log_to_stderr(level: str, log_format: str) -> None:
    """Log to stderr from `level` on, as "text" or "json"."""
    handler = logging.StreamHandler()
    if log_format == "json":
        from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415 - a sidecar that logs text does not need it

        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=names))
    else:
        handler.setFormatter(_TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    handler.addFilter(_shorten_traceback)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Never at debug level: botocore logs requests and responses with tokens, kopf logs whole objects.
    for name in ("botocore", "boto3", "kopf", "aiohttp", "asyncio", "kubernetes"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its warnings contain the headers that it cannot parse.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def _shorten_traceback(record: logging.LogRecord) -> bool:
    """Replace a traceback from botocore by the type of the exception: AWS repeats rejected values in its messages."""
    if record.name.startswith("botocore.") and record.exc_info:
        kind = getattr(record.exc_info[0], "__name__", "")
        record.msg, record.args = f"{record.getMessage()} ({kind})", ()
        record.exc_info = record.exc_text = None
    return True


class _TextFormatter(logging.Formatter):
    """Escapes control characters: messages may contain text from issuers and from other users of the cluster."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the same
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def handle_signals(action: Callable[[], object]) -> None:
    """Call `action` from now on at each signal that would end the process, and with it the save of a token.

    Another call replaces the action. An action for the wrong phase could stop the renewal of the Lease during a save.
    Call this before the process reports that it is ready: the kernel drops signals without a handler for process 1.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, action)
    # A process started by nohup ignores SIGHUP and must continue to do so. None is a handler that is not Python's, such
    # as that of a profiler. macOS does not have every signal.
    for name in _OTHER_ENDING_SIGNALS & {each.name for each in signal.Signals}:
        if signal.getsignal(signal.Signals[name]) not in (signal.SIG_IGN, None):
            loop.add_signal_handler(signal.Signals[name], action)


async def stoppable(work: Coroutine[Any, Any, Result], report: Callable[[], None] = lambda: None) -> Result:
    """Run `work` until it ends or a signal cancels it. The save of a rotated token still completes.

    `report` is called at each signal.
    """
    task = asyncio.ensure_future(work)

    def stop() -> None:
        report()
        task.cancel()

    handle_signals(stop)
    return await task


async def run_until_stopped(work: Coroutine[Any, Any, None], report: Callable[[], None] = lambda: None) -> NoReturn:
    """Run `work` until a signal stops it, then exit the process with 0. Errors of `work` are raised."""
    is_stopping = False

    def stop() -> None:
        nonlocal is_stopping
        is_stopping = True
        report()

    try:
        await stoppable(work, stop)
    except asyncio.CancelledError:
        # Without a signal, this is a bug, and the exit code must not be 0.
        if not is_stopping:
            raise
    # Not after asyncio.run, which waits for threads: one may be reading from a file system that no longer responds.
    exit_immediately(0)


def raise_file_limit() -> None:
    """Raise the limit of open files as far as allowed, because a default of 1,024 includes idle connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS refuses an unlimited value even if that is its hard limit.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def freeze_imports() -> None:
    """Exempt all current objects from garbage collection. They are permanent, but full collections would scan them."""
    gc.collect()
    gc.freeze()


def fail(message: str) -> NoReturn:
    """Log the message as an error and exit with 1."""
    logging.getLogger("keyturn").error("%s", message)
    sys.exit(1)


def exit_immediately(code: int) -> NoReturn:
    """Exit without waiting for threads: calls to AWS that hang would delay a normal exit by up to half a minute."""
    # Closes the log, and removes the file that the Kubernetes client has created for the client key of a kubeconfig.
    atexit._run_exitfuncs()  # noqa: SLF001 - os._exit would skip them
    # None if the process was started with a closed stdout.
    if sys.stdout:
        sys.stdout.flush()
    os._exit(code)
