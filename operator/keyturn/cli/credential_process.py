"""keyturn credential-process."""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import click

from keyturn.cli import COMMANDS
from keyturn.cli.clock import now
from keyturn.cli.options import FILE, secret_options
from keyturn.sidecar.credential_cache import Held, Served, UnservableError
from keyturn.sidecar.mounted_secret import Mounted

_STILL = timedelta(seconds=0.5)
_LOOKS, _LOOK_SECONDS = 20, 0.1
_URL = ["KEYTURN_URL", "AWS_CONTAINER_CREDENTIALS_FULL_URI"]
_FILE = ["KEYTURN_AUTHORIZATION_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]


@click.command(help=COMMANDS["credential-process"])
@secret_options(required=False)
@click.option("--url", envvar=_URL, show_envvar=True, help="The sidecar's endpoint, where there is no --secret-dir.")
@click.option(
    "--authorization-file",
    envvar=_FILE,
    show_envvar=True,
    type=FILE,
    help="The token that the endpoint wants to see.",
)
def credential_process(secret_dir: Path | None, key: str, url: str | None, authorization_file: Path | None) -> None:
    """Print credentials in version 1 of the form, or nothing and a reason on stderr (exit code 1)."""
    try:
        if secret_dir:
            found = _read(Mounted(secret_dir, key))
        elif url and authorization_file:
            found = _ask(url, authorization_file)
        else:
            raise click.UsageError("give --secret-dir, or --url and --authorization-file")
        fields = json.loads(Held(now, found, trouble="").document())
    except UnservableError as error:
        click.echo(f"keyturn credential-process: {error}", err=True)
        sys.exit(1)
    fields["SessionToken"] = fields.pop("Token")
    click.echo(json.dumps({"Version": 1} | fields))


def _read(mounted: Mounted) -> Served:
    """Read it when no file has changed for half a second, or after two: somebody may be between two files."""
    for _ in range(_LOOKS):
        if abs(now() - mounted.written_at()) >= _STILL:
            break
        time.sleep(_LOOK_SECONDS)
    return mounted.read()


def _ask(url: str, authorization_file: Path) -> Served:
    from keyturn.sidecar.client import ask  # noqa: PLC0415 - HTTP is not loaded where a file is read: an SDK waits

    return ask(url, authorization_file)
