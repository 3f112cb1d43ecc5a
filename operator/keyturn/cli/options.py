"""What commands have in common: options that are environment variables."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def option(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option that is also an environment variable: --log-level is KEYTURN_LOG_LEVEL."""
    variable = "KEYTURN_" + names[0].partition("/")[0].removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, show_default=True, **attributes)


def log_options(command: Command) -> Command:
    """How much is logged, and in which form."""
    level = option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
    return level(option("--log-format", type=click.Choice(["text", "json"]), default="text")(command))


def secret_options(*, required: bool) -> Callable[[Command], Command]:
    """The mounted Secret and its key."""

    def add(command: Command) -> Command:
        folder = click.Path(file_okay=False, path_type=Path)
        secret = option("--secret", type=folder, required=required, help="The folder where it is mounted.")
        text = "Of what the format credentialProcess wrote; else the keys of env are read."
        key = option("--key", default="credentials.json", callback=_key, help=text)
        return secret(key(command))

    return add


def _key(_: click.Context, __: click.Parameter, value: str) -> str:
    """Refuse what the key of a Secret cannot be: it becomes part of a path."""
    if not re.fullmatch(r"(?!\.\.)[-._a-zA-Z0-9]+", value):
        raise click.BadParameter(f"{value} is not the key of a Secret")
    return value
