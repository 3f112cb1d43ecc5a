"""keyturn sidecar --mode standalone."""

from pathlib import Path
from typing import Any

import click

from keyturn.cli.options import log_options, serving_options
from keyturn.cli.process import log_to_stderr
from keyturn.cli.renewing import around, files_options, serve
from keyturn.sidecar.endpoint import ListenAddresses
from keyturn.standalone.runner import Files


@click.command()
@files_options
@serving_options
@log_options
def standalone(
    *, listen: str, probes_listen: str, authorization_file: Path, config: str | None, log_level: str,
    log_format: str, **files: Any,
) -> None:  # fmt: skip
    """Renew one TokenRequest in this pod, and serve what it is issued to the AWS SDKs of the pod.

    It does what `keyturn run` does, and listens where --mode reader does. Nothing of it is stored in the cluster.
    """
    log_to_stderr(log_level, log_format)
    serve(Files(**files), around(config), ListenAddresses(listen, probes_listen), authorization_file)
