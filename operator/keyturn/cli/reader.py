"""keyturn sidecar --mode reader."""

import asyncio
from pathlib import Path

import click

from keyturn.cli.clock import now
from keyturn.cli.options import log_options, secret_options, serving_options
from keyturn.cli.process import fail, log_to_stderr, settle, until_stopped
from keyturn.sidecar.authorization import AuthorizationError, read_or_create_token
from keyturn.sidecar.credential_cache import CredentialCache
from keyturn.sidecar.endpoint import ListenAddresses, serve_endpoint
from keyturn.sidecar.http_server import BindError
from keyturn.sidecar.mounted_secret import MountedSecret
from keyturn.sidecar.reader import Reader


@click.command()
@secret_options(required=True)
@serving_options
@log_options
def reader(  # noqa: PLR0913 - one for each option
    *, secret: Path, key: str, listen: str, probes_listen: str, authorization_file: Path, log_level: str,
    log_format: str,
) -> None:  # fmt: skip
    """Serve the credentials in a mounted Secret to the AWS SDKs of this pod.

    This is --mode reader, the default. With --mode standalone the sidecar renews the credentials itself; see
    --mode standalone --help.
    """
    log_to_stderr(log_level, log_format)
    mounted_secret, addresses = MountedSecret(secret, key), ListenAddresses(listen, probes_listen)
    try:
        asyncio.run(until_stopped(_serve(mounted_secret, addresses, authorization_file)))
    except (AuthorizationError, BindError) as error:
        fail(str(error))


async def _serve(secret: MountedSecret, addresses: ListenAddresses, authorization_file: Path) -> None:
    cache = CredentialCache(now)
    token = read_or_create_token(authorization_file)
    secret_reader = Reader(secret, cache)
    secret_reader.poll()
    async with serve_endpoint(addresses, cache, token):
        settle()
        await secret_reader.run()
