"""keyturn run, and keyturn sidecar --mode standalone: renew one TokenRequest without a cluster."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import click

from keyturn.api.status import Status
from keyturn.cli import COMMANDS, now
from keyturn.cli.documents import read_proxies, read_settings
from keyturn.cli.options import (
    DIRECTORY,
    FILE,
    MODE_HELP,
    Command,
    authorization_file_mode,
    log_options,
    option,
    serving_options,
)
from keyturn.cli.process import (
    exit_immediately,
    fail,
    freeze_imports,
    log_to_stderr,
    raise_file_limit,
    rand,
    run_until_stopped,
    stoppable,
)
from keyturn.reconcile.dependencies import PendingTokens
from keyturn.sidecar.authorization import AuthorizationError, read_or_create_token
from keyturn.sidecar.credential_cache import CredentialCache
from keyturn.sidecar.endpoint import ListenAddresses, serve_endpoint
from keyturn.sidecar.http_server import BindError
from keyturn.standalone import runner
from keyturn.standalone.atomic_files import StartupError
from keyturn.standalone.runner import StandaloneEnvironment, StandaloneFiles


def _file_options(command: Command) -> Command:
    """Add the options for the manifest, the settings and the directories."""
    for add in (
        option("--config", type=click.Path(exists=True, dir_okay=False), help="Settings file (YAML)."),
        option(
            "--service-account-token-file",
            type=FILE,
            help="Projected token, for token.serviceAccount and clientAssertionFrom.serviceAccount.",
        ),
        option(
            "--state-dir",
            type=DIRECTORY,
            help="Directory for rotated refresh tokens, and for records of single-use credentials that have been used."
            " It must survive restarts. Required for a source that is consumed.",
        ),
        option(
            "--output-dir",
            type=DIRECTORY,
            help="Directory to write the formats to, laid out like a Secret volume: all files change at once.",
        ),
        option(
            "--sources-dir", type=DIRECTORY, help="Directory with a file NAME/KEY for each Secret or ConfigMap key."
        ),
        option(
            "--filename",
            "-f",
            "manifest",
            type=FILE,
            required=True,
            help="Manifest of the TokenRequest; a change is applied within a second.",
        ),
    ):
        command = add(command)
    return command


@click.command(help=COMMANDS["run"].summary)
@_file_options
@click.option("--once", is_flag=True, help="Renew if due, then exit with 0 if the credentials are usable.")
@option("--listen", default="", metavar="HOST:PORT", help="Serve credentials to AWS SDKs on this loopback address.")
@option("--http-bind-address", default="", metavar="HOST:PORT", help="Address of /metrics, /healthz and /readyz.")
@option(
    "--authorization-file",
    type=FILE,
    help="File with the token that clients of --listen must send; created if it does not exist.",
)
@authorization_file_mode
@log_options
def run(  # noqa: PLR0913 - one for each option
    *, once: bool, listen: str, http_bind_address: str, authorization_file: Path | None,
    authorization_file_mode: int, config: str | None, log_level: str, log_format: str, **files: Any,
) -> None:  # fmt: skip
    if once and (listen or http_bind_address):
        raise click.UsageError("--once does not serve credentials: remove --listen and --http-bind-address")
    if once and not files["output_dir"]:
        raise click.UsageError("--once needs --output-dir")
    if not (listen or files["output_dir"]):
        raise click.UsageError("set --listen, --output-dir or both")
    if listen and not authorization_file:
        raise click.UsageError("--listen needs --authorization-file: clients must send the token in that file")
    log_to_stderr(log_level, log_format)
    raise_file_limit()
    if once:
        _renew_once(StandaloneFiles(**files), _environment(config))
    _renew_and_serve(
        StandaloneFiles(**files),
        _environment(config),
        ListenAddresses(listen, http_bind_address),
        lambda: (
            read_or_create_token(authorization_file, authorization_file_mode) if listen and authorization_file else ""
        ),
    )


@click.command(epilog=MODE_HELP)
@_file_options
@serving_options
@log_options
def standalone(  # noqa: PLR0913 - one for each option
    *, listen: str, http_bind_address: str, authorization_file: Path, authorization_file_mode: int,
    config: str | None, log_level: str, log_format: str, **files: Any,
) -> None:  # fmt: skip
    """Renew one TokenRequest and serve its credentials to the AWS SDKs in this Pod.

    Works like `keyturn run`, with the listen addresses of --mode reader. Nothing is stored in the cluster.
    """
    log_to_stderr(log_level, log_format)
    raise_file_limit()
    _renew_and_serve(
        StandaloneFiles(**files),
        _environment(config),
        ListenAddresses(listen, http_bind_address),
        lambda: read_or_create_token(authorization_file, authorization_file_mode),
    )


def _environment(config: str | None) -> StandaloneEnvironment:
    return StandaloneEnvironment(read_settings(config), now, rand, PendingTokens(time.monotonic), read_proxies())


def _renew_once(files: StandaloneFiles, environment: StandaloneEnvironment) -> NoReturn:
    """Reconcile once. Exit with 0 if the output directory has usable credentials, else with 1."""
    try:
        status = asyncio.run(_reconcile_until_stopped(files, environment))
    except StartupError as error:
        fail(str(error))
    ready, renewed = status.condition("Ready"), status.condition("Renewed")
    if ready is None or renewed is None:
        fail("internal error; see the log")
    if ready.status != "True":
        # If the last renewal succeeded, the next one is not due: soon after it, only Ready says when it is.
        fail((ready if renewed.status == "True" else renewed).message)
    log = logging.getLogger("keyturn")
    log.log(logging.INFO if renewed.status == "True" else logging.WARNING, "%s; %s", ready.message, renewed.message)
    exit_immediately(0)


async def _reconcile_until_stopped(files: StandaloneFiles, environment: StandaloneEnvironment) -> Status:
    try:
        return await stoppable(_reconcile(files, environment), environment.pending_tokens.log)
    except asyncio.CancelledError:
        logging.getLogger("keyturn").error("stopped before the renewal was finished")  # noqa: TRY400 - one line
        # asyncio.run would wait for threads, as in run_until_stopped.
        exit_immediately(1)


async def _reconcile(files: StandaloneFiles, environment: StandaloneEnvironment) -> Status:
    with runner.open_renewal_loop(files, environment, CredentialCache(now), has_endpoint=False) as loop:
        await loop.reconcile()
    return loop.status


def _renew_and_serve(
    files: StandaloneFiles,
    environment: StandaloneEnvironment,
    addresses: ListenAddresses,
    read_token: Callable[[], str],
) -> NoReturn:
    """Renew and serve until a signal stops it. If startup fails, log one line and exit with 1."""
    try:
        serving = _serve(files, environment, addresses, read_token)
        asyncio.run(run_until_stopped(serving, environment.pending_tokens.log))
    except (AuthorizationError, BindError, StartupError) as error:
        fail(str(error))


async def _serve(
    files: StandaloneFiles,
    environment: StandaloneEnvironment,
    addresses: ListenAddresses,
    read_token: Callable[[], str],
) -> None:
    # Each thread has its own memory arena, and three are enough for files and DNS: if a file system does not respond,
    # two of them may hang, one that checks for changes and one that reads or writes the output.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(3, "files"))
    cache, has_endpoint = CredentialCache(environment.now), bool(addresses.credentials)
    with runner.open_renewal_loop(files, environment, cache, has_endpoint=has_endpoint) as loop:
        async with serve_endpoint(addresses, cache, read_token(), loop.exposition):
            freeze_imports()
            await loop.run()
