"""keyturn operator."""

import asyncio
import logging
from typing import Any, NoReturn

import click

from keyturn.cli import COMMANDS, now
from keyturn.cli.documents import read_proxies, read_settings
from keyturn.cli.options import log_options, option
from keyturn.cli.process import (
    exit_immediately,
    fail,
    freeze_imports,
    handle_signals,
    log_to_stderr,
    raise_file_limit,
    rand,
)
from keyturn.controller.app import NoClusterError, Operator, Options
from keyturn.core.errors import LeaseLostError
from keyturn.sidecar.http_server import BindError


@click.command(help=COMMANDS["operator"].summary)
@option(
    "--watch-namespace",
    "namespaces",
    multiple=True,
    help="Watch only this namespace. May be repeated. Default: all namespaces.",
)
@option("--config", type=click.Path(exists=True, dir_okay=False), help="Settings file (YAML).")
@option(
    "--kubeconfig",
    type=click.Path(dir_okay=False),
    help="Kubeconfig file. Default: the file in KUBECONFIG or, if unset, the Pod's service account.",
)
@option(
    "--concurrent",
    type=click.IntRange(1, 256),
    default=16,
    help="Maximum number of concurrent reconciliations; up to four times as many while some are slow.",
)
@option(
    "--http-bind-address",
    default=":8080",
    metavar="HOST:PORT",
    help="Address of /metrics, /healthz and /readyz. Without a host: all addresses of the Pod.",
)
@option("--leader-elect/--no-leader-elect", default=True, help="Renew only while holding the Lease.")
@option(
    "--lease-name", default="keyturn", help="Name of the Lease. With its namespace, it identifies the installation."
)
@option("--lease-namespace", help="Namespace of the Lease. Default: the Pod's own.")
@option("--issuance-key-secret", help="Secret with the keys that sign issuance records. Default: LEASE-issuance-key.")
@option(
    "--watch-secrets/--no-watch-secrets",
    default=True,
    help="Watch Secret metadata (requires the verbs list and watch on secrets).",
)
@log_options
def operator(log_level: str, log_format: str, config: str | None, namespaces: tuple[str, ...], **options: Any) -> None:
    log_to_stderr(log_level, log_format)
    raise_file_limit()
    options["proxies"] = read_proxies()
    operator = Operator(Options(namespaces=namespaces, **options), read_settings(config), now, rand, handle_signals)
    freeze_imports()
    try:
        asyncio.run(_run_to_exit(operator))
    except (BindError, NoClusterError) as error:
        fail(str(error))


async def _run_to_exit(operator: Operator) -> NoReturn:
    """Run, then exit. asyncio.run would wait for threads, such as one that waits for DNS."""
    try:
        await operator.run()
    except LeaseLostError as error:
        logging.getLogger("keyturn").error("%s", error)  # noqa: TRY400 - one line, not a traceback
        exit_immediately(1)
    exit_immediately(0)
