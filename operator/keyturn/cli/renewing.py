"""What the commands share that renew one request without a cluster: its files, and how it goes on."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from keyturn.cli.clock import now
from keyturn.cli.options import FILE, FOLDER, option
from keyturn.cli.process import chance, fail, leave, settle, until_stopped
from keyturn.cli.settings import read_settings
from keyturn.sidecar.authorization import AuthorizationError, read_or_create_token
from keyturn.sidecar.credential_cache import CredentialCache
from keyturn.sidecar.endpoint import ListenAddresses, serve_endpoint
from keyturn.sidecar.http_server import BindError
from keyturn.standalone.atomic_files import UnusableError
from keyturn.standalone.runner import Around, Files, standalone

Command = TypeVar("Command", bound=Callable[..., Any])


def files_options(command: Command) -> Command:
    """The request, and where its files are."""
    for one in (
        option("--config", type=click.Path(exists=True, dir_okay=False), help="A YAML file of settings."),
        option("--service-account-token", type=FILE, help="A projected token, for a source of serviceAccount."),
        option("--state", type=FOLDER, help="Where a token is kept that its issuer replaces; it must last."),
        option("--write", type=FOLDER, help="Where the formats are written, as in a mounted Secret."),
        option("--sources", type=FOLDER, help="Holds NAME/KEY for each Secret and ConfigMap that is read."),
        option("--filename", "-f", "manifest", type=FILE, required=True, help="The TokenRequest."),
    ):
        command = one(command)
    return command


def around(config: str | None) -> Around:
    """The settings of a file, the real clock and the real dice."""
    return Around(read_settings(config), now, chance)


def serve(files: Files, outside: Around, addresses: ListenAddresses, authorization_file: Path | None) -> NoReturn:
    """Renew and serve until SIGTERM, SIGINT or SIGHUP; what cannot be is one line, and exit code 1."""
    try:
        asyncio.run(until_stopped(_serve(files, outside, addresses, authorization_file)))
    except (AuthorizationError, BindError, UnusableError) as error:
        fail(str(error))
    leave(0)


async def _serve(
    files: Files, outside: Around, addresses: ListenAddresses, authorization_file: Path | None
) -> None:
    # Threads have memory of their own: two are enough for files and names.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2, "files"))
    cache, serves = CredentialCache(outside.now), bool(addresses.credentials)
    with standalone(files, outside, cache, serves=serves) as renewing:
        token = read_or_create_token(authorization_file) if serves and authorization_file else ""
        async with serve_endpoint(addresses, cache, token, renewing.exposition):
            settle()
            await renewing.go_on()
