"""What the commands share that renew one request without a cluster: its files, and how it goes on."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from keyturn.cli.clock import now
from keyturn.cli.options import FILE, FOLDER, option
from keyturn.cli.process import fail, leave, rand, settle, until_stopped
from keyturn.cli.settings import read_settings
from keyturn.sidecar.authorization import AuthorizationError, authorization
from keyturn.sidecar.credential_cache import Held
from keyturn.sidecar.endpoint import Listening, serving
from keyturn.sidecar.listener import NotListeningError
from keyturn.standalone.atomic_files import UnusableError
from keyturn.standalone.runner import Around, Files, standalone

Command = TypeVar("Command", bound=Callable[..., Any])


def files_options(command: Command) -> Command:
    """The request, and where its files are."""
    for one in (
        option("--config", type=click.Path(exists=True, dir_okay=False), help="A YAML file of settings."),
        option("--service-account-token-file", type=FILE, help="A projected token, for a source of serviceAccount."),
        option("--state-dir", type=FOLDER, help="Where a token is kept that its issuer replaces; it must last."),
        option("--output-dir", type=FOLDER, help="Where the formats are written, as in a mounted Secret."),
        option("--sources-dir", type=FOLDER, help="Holds NAME/KEY for each Secret and ConfigMap that is read."),
        option("--filename", "-f", "manifest", type=FILE, required=True, help="The TokenRequest."),
    ):
        command = one(command)
    return command


def around(config: str | None) -> Around:
    """The settings of a file, the real clock and the real dice."""
    return Around(read_settings(config), now, rand)


def serve(files: Files, outside: Around, listening: Listening, authorization_file: Path | None) -> NoReturn:
    """Renew and serve until SIGTERM, SIGINT or SIGHUP; what cannot be is one line, and exit code 1."""
    try:
        asyncio.run(until_stopped(_serve(files, outside, listening, authorization_file)))
    except (AuthorizationError, NotListeningError, UnusableError) as error:
        fail(str(error))
    leave(0)


async def _serve(files: Files, outside: Around, listening: Listening, authorization_file: Path | None) -> None:
    # Threads have memory of their own: two are enough for files and names.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2, "files"))
    held, serves = Held(outside.now), bool(listening.credentials)
    with standalone(files, outside, held, serves=serves) as renewing:
        token = authorization(authorization_file) if serves and authorization_file else ""
        async with serving(listening, held, token, renewing.exposition):
            settle()
            await renewing.go_on()
