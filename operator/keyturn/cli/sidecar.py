"""keyturn sidecar: each mode is a command in a module of its own, which is imported only if it is chosen."""

import importlib

import click

from keyturn.cli import COMMANDS
from keyturn.cli.options import option

MODES = ("reader", "standalone")


# All other options, also --help, are passed on to the mode's command.
@click.command(help=COMMANDS["sidecar"], add_help_option=False, context_settings={"ignore_unknown_options": True})
@option("--mode", type=click.Choice(MODES), default="reader", help="Where the credentials come from.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def sidecar(ctx: click.Context, mode: str, arguments: tuple[str, ...]) -> None:
    """Serve credentials to the AWS SDKs of a pod."""
    command: click.Command = getattr(importlib.import_module(f"keyturn.cli.{mode}"), mode)
    with command.make_context(ctx.info_name, list(arguments), parent=ctx.parent) as inner:
        command.invoke(inner)
