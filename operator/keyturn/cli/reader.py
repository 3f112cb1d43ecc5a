"""keyturn sidecar --mode reader."""

import asyncio
from pathlib import Path

import click

from keyturn.cli.clock import now
from keyturn.cli.options import log_options, secret_options, serving_options
from keyturn.cli.process import fail, log_to_stderr, settle, until_stopped
from keyturn.sidecar.authorization import AuthorizationError, authorization
from keyturn.sidecar.credential_cache import Held
from keyturn.sidecar.endpoint import Listening, serving
from keyturn.sidecar.listener import NotListeningError
from keyturn.sidecar.mounted_secret import Mounted
from keyturn.sidecar.reader import Reader


@click.command()
@secret_options(required=True)
@serving_options
@log_options
def reader(  # noqa: PLR0913 - one for each option
    *, secret_dir: Path, key: str, listen: str, http_bind_address: str, authorization_file: Path, log_level: str,
    log_format: str,
) -> None:  # fmt: skip
    """Serve the credentials of a mounted Secret to the AWS SDKs of this pod.

    This is --mode reader, the default. With --mode standalone it renews them itself; see --mode standalone --help.
    """
    log_to_stderr(log_level, log_format)
    try:
        serving_it = _serve(Mounted(secret_dir, key), Listening(listen, http_bind_address), authorization_file)
        asyncio.run(until_stopped(serving_it))
    except (AuthorizationError, NotListeningError) as error:
        fail(str(error))


async def _serve(mounted: Mounted, listening: Listening, authorization_file: Path) -> None:
    held = Held(now)
    token = authorization(authorization_file)
    following = Reader(mounted, held)
    following.look()
    async with serving(listening, held, token):
        settle()
        await following.follow()
