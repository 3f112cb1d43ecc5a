"""How a process begins and ends: its dice, its log, the signals that stop it, its end."""

import asyncio
import gc
import logging
import os
import random  # noqa: TID251 - the real dice
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

Result = TypeVar("Result")
rand = random.random


def log_to_stderr(level: str, form: str) -> None:
    """Log lines of text, or of JSON, from `level` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_json() if form == "json" else _text())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Never at debug level: botocore prints requests and answers with the tokens in them, kopf whole objects.
    for name in ("botocore", "boto3", "urllib3", "kopf", "aiohttp", "asyncio", "kubernetes"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _text() -> logging.Formatter:
    return logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


def _json() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415 - a sidecar that logs text goes without

    names = {"asctime": "time", "levelname": "level", "name": "logger"}
    return JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=names)


async def stoppable(work: Coroutine[Any, Any, Result]) -> Result:
    """Do `work`, which SIGTERM, SIGINT or SIGHUP cancels: a token that is being spent is saved all the same.

    To be called before anything is announced: the first process of a container ignores signals without a handler.
    """
    working = asyncio.ensure_future(work)
    # SIGHUP is that of a terminal that closes; who started the process by nohup wants it to go on.
    hung_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    for number in (signal.SIGTERM, signal.SIGINT, *hung_up):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    return await working


async def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, which has no end of its own, until a signal ends it; its errors are raised."""
    with suppress(asyncio.CancelledError):
        await stoppable(work)


def settle() -> None:
    """Take what is imported by now for what stays: else each full collection looks at all of it again."""
    gc.collect()
    gc.freeze()


def fail(why: str) -> NoReturn:
    """Say why in one line, and exit."""
    logging.getLogger("keyturn").error("%s", why)
    sys.exit(1)


def leave(code: int) -> NoReturn:
    """Exit at once: Python would first wait, half a minute perhaps, for threads whose calls to AWS hang."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)
