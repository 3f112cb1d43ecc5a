"""What commands have in common: options that are environment variables, and the file of settings."""

from collections.abc import Callable
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
