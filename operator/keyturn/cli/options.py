"""Options that several commands share. Each is also an environment variable."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from keyturn.cli import COMMANDS, exit_codes

Command = TypeVar("Command", bound=Callable[..., Any])


class _NonEmptyPath(click.Path):
    """A path that is not empty: click treats "", such as from an unset shell variable, as the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


# `keyturn sidecar --help` shows the help of the selected mode, whose command does not have this option.
MODE_HELP = (
    "--mode [reader|standalone] or KEYTURN_MODE selects the mode of the sidecar. Default: reader.\n\n"
    + exit_codes(COMMANDS["sidecar"].failure)
)

FILE = _NonEmptyPath(dir_okay=False, path_type=Path)
DIRECTORY = _NonEmptyPath(file_okay=False, path_type=Path)


def option(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """Declare an option that is also an environment variable: --log-level is KEYTURN_LOG_LEVEL."""
    variable = "KEYTURN_" + names[0].partition("/")[0].removeprefix("--").replace("-", "_").upper()
    # click would show an empty default as [default: ""].
    show_default = attributes.get("default") != ""
    return click.option(*names, envvar=variable, show_envvar=True, show_default=show_default, **attributes)


def log_options(command: Command) -> Command:
    """Add --log-level and --log-format."""
    level = option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        help="Lowest level of the messages to log.",
    )
    log_format = option(
        "--log-format", type=click.Choice(["text", "json"]), default="text", help="Format of log messages."
    )
    return level(log_format(command))


def secret_options(*, required: bool) -> Callable[[Command], Command]:
    """Add --secret-dir and --key."""

    def add(command: Command) -> Command:
        secret_dir = option(
            "--secret-dir", type=DIRECTORY, required=required, help="Directory where the Secret is mounted."
        )
        key = option(
            "--key",
            default="credentials.json",
            callback=_check_key,
            help="File that the format credentialProcess writes. If it does not exist, the format env is read instead.",
        )
        return secret_dir(key(command))

    return add


authorization_file_mode = option(
    "--authorization-file-mode",
    type=click.Choice(["0440", "0444"]),
    default="0440",
    callback=lambda _, __, value: int(value, 8),
    help="Mode of a new authorization file. With 0444, all containers that mount its volume can read it.",
)


def serving_options(command: Command) -> Command:
    """Add the listen addresses of a sidecar, and the file with the token that clients must send."""
    listen = option(
        "--listen",
        default="127.0.0.1:9911",
        metavar="HOST:PORT",
        help="Loopback address to serve credentials on.",
    )
    http_bind_address = option(
        "--http-bind-address", default=":9912", metavar="HOST:PORT", help="Address of /metrics, /healthz and /readyz."
    )
    authorization_file = option(
        "--authorization-file",
        default="/var/run/keyturn/token",
        type=FILE,
        help="File with the token that clients must send; created if it does not exist.",
    )
    return listen(http_bind_address(authorization_file(authorization_file_mode(command))))


def _check_key(_: click.Context, __: click.Parameter, value: str) -> str:
    """Reject invalid Secret keys, because the key becomes part of a path."""
    if not re.fullmatch(r"(?!\.\.)[-._a-zA-Z0-9]+", value):
        raise click.BadParameter(f"{value} is not a valid Secret key")
    return value
