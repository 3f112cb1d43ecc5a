"""keyturn sidecar: each mode is a separate command; standalone mode is imported only if it is selected."""

import asyncio
from pathlib import Path

import click

from keyturn.cli import COMMANDS, now
from keyturn.cli.options import MODE_HELP, log_options, option, secret_options, serving_options
from keyturn.cli.process import fail, freeze_imports, log_to_stderr, raise_file_limit, run_until_stopped
from keyturn.sidecar.authorization import AuthorizationError, read_or_create_token
from keyturn.sidecar.credential_cache import CredentialCache
from keyturn.sidecar.endpoint import ListenAddresses, serve_endpoint
from keyturn.sidecar.http_server import BindError
from keyturn.sidecar.mounted_files import MountedSecret
from keyturn.sidecar.reader import Reader

# Each command is imported when its mode is selected: the module of standalone mode imports boto3.
MODES = {"reader": COMMANDS["sidecar"], "standalone": COMMANDS["run"]}


# All arguments except --mode, including --help, are passed to the command of the mode.
@click.command(
    help=COMMANDS["sidecar"].summary, add_help_option=False, context_settings={"ignore_unknown_options": True}
)
@option("--mode", type=click.Choice(list(MODES)), default="reader", help="Where the credentials come from.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def sidecar(ctx: click.Context, mode: str, arguments: tuple[str, ...]) -> None:
    command = MODES[mode].load(mode)
    with command.make_context(ctx.info_name, list(arguments), parent=ctx.parent) as mode_context:
        command.invoke(mode_context)


@click.command(epilog=MODE_HELP)
@secret_options(required=True)
@serving_options
@log_options
def reader(  # noqa: PLR0913 - one for each option
    *, secret_dir: Path, key: str, listen: str, http_bind_address: str, authorization_file: Path,
    authorization_file_mode: int, log_level: str, log_format: str,
) -> None:  # fmt: skip
    """Serve the credentials in a mounted Secret to the AWS SDKs in this Pod.

    With --mode standalone the sidecar renews the credentials itself; see --mode standalone --help.
    """
    log_to_stderr(log_level, log_format)
    raise_file_limit()
    secret, addresses = MountedSecret(secret_dir, key), ListenAddresses(listen, http_bind_address)
    try:
        token = read_or_create_token(authorization_file, authorization_file_mode)
        asyncio.run(run_until_stopped(_serve(secret, addresses, token)))
    except (AuthorizationError, BindError) as error:
        fail(str(error))


async def _serve(secret: MountedSecret, addresses: ListenAddresses, token: str) -> None:
    cache = CredentialCache(now)
    secret_reader = Reader(secret, cache)
    secret_reader.poll()
    async with serve_endpoint(addresses, cache, token):
        freeze_imports()
        await secret_reader.run()
