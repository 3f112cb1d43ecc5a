"""Signals that end a program which runs until Ctrl-C."""

import signal


def interrupt_on_signals() -> None:
    """Raise KeyboardInterrupt on SIGINT and SIGTERM.

    A script starts background jobs with SIGINT ignored, and Python keeps it ignored. Ctrl-C would then end only some of
    the servers that the program starts.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def ignoring_sigint(command: list[str]) -> list[str]:
    """Return a command that starts with SIGINT ignored, as a background job of a script does."""
    return ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
