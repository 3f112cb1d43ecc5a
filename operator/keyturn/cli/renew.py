"""keyturn renew --once."""

import asyncio
import logging
from typing import Any

import click

from keyturn.api.token_request import Status
from keyturn.cli import COMMANDS
from keyturn.cli.clock import now
from keyturn.cli.options import log_options
from keyturn.cli.process import fail, leave, log_to_stderr, stoppable
from keyturn.cli.renewing import around, files_options
from keyturn.sidecar.credential_cache import CredentialCache
from keyturn.standalone.atomic_files import UnusableError
from keyturn.standalone.runner import Around, Files, standalone


@click.command(help=COMMANDS["renew"])
@files_options
@click.option("--once", is_flag=True, help="Look once: what is not due is not renewed.")
@log_options
def renew(*, once: bool, config: str | None, log_level: str, log_format: str, **files: Any) -> None:
    """Renew one TokenRequest where it is due; exit code 0 where what is in --write can be used now."""
    if not once:
        raise click.UsageError("give --once; what goes on is keyturn run")
    if not files["write"]:
        raise click.UsageError("say where the credentials go: --write")
    log_to_stderr(log_level, log_format)
    try:
        status = asyncio.run(stoppable(_look(Files(**files), around(config))))
    except UnusableError as error:
        fail(str(error))
    except asyncio.CancelledError:
        fail("stopped before it was done")
    ready, renewed = status.condition("Ready"), status.condition("Renewed")
    if ready is None or renewed is None or ready.status != "True":
        fail(renewed.message if renewed else "a bug; the log says where")
    log = logging.getLogger("keyturn")
    log.log(
        logging.INFO if renewed.status == "True" else logging.WARNING, "%s; %s", ready.message, renewed.message
    )
    leave(0)


async def _look(files: Files, outside: Around) -> Status:
    with standalone(files, outside, CredentialCache(now), serves=False) as renewing:
        await renewing.look()
    return renewing.status
