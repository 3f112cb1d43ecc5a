"""keyturn operator."""

import asyncio
import logging
import sys
from typing import Any

import click

from keyturn.cli import COMMANDS
from keyturn.cli.clock import now
from keyturn.cli.options import log_options, option
from keyturn.cli.process import fail, leave, log_to_stderr, rand, settle
from keyturn.cli.settings import read_settings
from keyturn.controller.app import NoClusterError, Operator, Options
from keyturn.core.errors import LeaseLostError


@click.command(help=COMMANDS["operator"])
@option(
    "--watch-namespace",
    "namespaces",
    multiple=True,
    help="Work in this namespace only; may be repeated. Default: all.",
)
@option("--config", type=click.Path(exists=True, dir_okay=False), help="A YAML file of settings.")
@option("--kubeconfig", type=click.Path(dir_okay=False), help="Default: the pod's service account.")
@option("--concurrent", type=click.IntRange(1, 256), default=16, help="How many requests are looked at at once.")
@option("--http-bind-address", default=":8080", metavar="HOST:PORT", help="Of /metrics, /healthz and /readyz.")
@option("--leader-elect/--no-leader-elect", default=True, help="Renew only while holding the Lease.")
@option("--lease-name", default="keyturn", help="Name of the Lease.")
@option("--lease-namespace", help="Default: the pod's own.")
@option("--watch-secrets/--no-watch-secrets", default=True, help="Without: no list and watch of Secrets.")
@log_options
def operator(log_level: str, log_format: str, config: str | None, namespaces: tuple[str, ...], **options: Any) -> None:
    """Run the operator of a Kubernetes cluster."""
    # The API server keeps objects that are nested 10,000 deep, and anybody may make one: it must be readable.
    sys.setrecursionlimit(40_000)
    log_to_stderr(log_level, log_format)
    operator = Operator(Options(namespaces=namespaces, **options), read_settings(config), now, rand)
    settle()
    try:
        asyncio.run(operator.run())
    except NoClusterError as error:
        fail(str(error))
    except LeaseLostError as error:
        logging.getLogger("keyturn").error("%s", error)  # noqa: TRY400 - one line, not a traceback
        leave(1)
    leave(0)
