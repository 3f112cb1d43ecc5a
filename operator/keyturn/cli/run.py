"""keyturn run."""

from pathlib import Path
from typing import Any

import click

from keyturn.cli import COMMANDS
from keyturn.cli.options import FILE, log_options, option
from keyturn.cli.process import log_to_stderr
from keyturn.cli.renewing import around, files_options, serve
from keyturn.sidecar.endpoint import ListenAddresses
from keyturn.standalone.runner import Files


@click.command(help=COMMANDS["run"])
@files_options
@option("--listen", default="", metavar="HOST:PORT", help="Give credentials to AWS SDKs there; loopback only.")
@option("--probes-listen", default="", metavar="HOST:PORT", help="Of /metrics, /healthz and /readyz.")
@option(
    "--authorization-file",
    type=FILE,
    help="The token that clients of --listen show; made where there is none.",
)
@log_options
def run(
    *, listen: str, probes_listen: str, authorization_file: Path | None, config: str | None, log_level: str,
    log_format: str, **files: Any,
) -> None:  # fmt: skip
    """Renew one TokenRequest without a cluster."""
    if not (listen or files["write"]):
        raise click.UsageError("say where the credentials go: --listen, --write or both")
    if listen and not authorization_file:
        raise click.UsageError(
            "--listen needs --authorization-file: whoever does not show what is in it gets none"
        )
    log_to_stderr(log_level, log_format)
    serve(Files(**files), around(config), ListenAddresses(listen, probes_listen), authorization_file)
