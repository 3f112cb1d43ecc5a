"""What commands have in common: options that are environment variables."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class _Place(click.Path):
    """A file or a folder. An empty name, as of a variable that is not set, would be the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """click: make the value of what was given."""
        if not os.fspath(value):
            self.fail("it is empty", param, ctx)
        return super().convert(value, param, ctx)


FILE = _Place(dir_okay=False, path_type=Path)
FOLDER = _Place(file_okay=False, path_type=Path)


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
        secret = option("--secret-dir", type=FOLDER, required=required, help="The folder where it is mounted.")
        text = "Of what the format credentialProcess wrote; else the keys of env are read."
        key = option("--key", default="credentials.json", callback=_key, help=text)
        return secret(key(command))

    return add


def serving_options(command: Command) -> Command:
    """Where the endpoint and the probes of a pod listen, and what clients must show."""
    listen = option("--listen", default="127.0.0.1:9911", metavar="HOST:PORT", help="Of credentials; loopback only.")
    probes = option(
        "--http-bind-address", default=":9912", metavar="HOST:PORT", help="Of /metrics, /healthz and /readyz."
    )
    file = option(
        "--authorization-file",
        default="/var/run/keyturn/token",
        type=FILE,
        help="The token that clients show; made where there is none.",
    )
    return listen(probes(file(command)))


def _key(_: click.Context, __: click.Parameter, value: str) -> str:
    """Refuse what the key of a Secret cannot be: it becomes part of a path."""
    if not re.fullmatch(r"(?!\.\.)[-._a-zA-Z0-9]+", value):
        raise click.BadParameter(f"{value} is not the key of a Secret")
    return value
