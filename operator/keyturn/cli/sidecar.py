"""keyturn sidecar: the modes, each a command in a file that is read when it is chosen."""

import importlib

import click

from keyturn.cli import COMMANDS
from keyturn.cli.options import option

MODES = ("reader", "standalone")


# All but the mode goes on as it is, --help too.
@click.command(help=COMMANDS["sidecar"], add_help_option=False, context_settings={"ignore_unknown_options": True})
@option("--mode", type=click.Choice(MODES), default="reader", help="How it comes by them.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def sidecar(ctx: click.Context, mode: str, arguments: tuple[str, ...]) -> None:
    """Give credentials to the AWS SDKs of a pod."""
    command: click.Command = getattr(importlib.import_module(f"keyturn.cli.{mode}"), mode)
    with command.make_context(ctx.info_name, list(arguments), parent=ctx.parent) as inner:
        command.invoke(inner)
