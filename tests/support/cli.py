"""Runs `keyturn` in this process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from click.testing import CliRunner, Result

from keyturn.cli import main


def run_keyturn(*arguments: str, stdin: str = "", **environment: str) -> Result:
    """Run a command as a new process would: without log handlers, and with the environment of this process."""
    with _process_state():
        return CliRunner(env={"KUBECONFIG": None, **environment}).invoke(main, arguments, input=stdin)


@contextmanager
def _process_state() -> Iterator[None]:
    """Restore the log handlers that commands change. The log level is not restored."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = before
