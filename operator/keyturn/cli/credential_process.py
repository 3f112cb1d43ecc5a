"""keyturn credential-process."""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import click

from keyturn.cli import COMMANDS, now
from keyturn.cli.options import FILE, secret_options
from keyturn.cli.terminal import echo
from keyturn.sidecar.credential_cache import CredentialCache, NoCredentialsError
from keyturn.sidecar.mounted_files import MountedSecret

_UNCHANGED = timedelta(seconds=0.5)
_POLLS, _POLL_SECONDS = 20, 0.1
_URL = ["KEYTURN_URL", "AWS_CONTAINER_CREDENTIALS_FULL_URI"]
_FILE = ["KEYTURN_AUTHORIZATION_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]


@click.command(help=COMMANDS["credential-process"].summary)
@secret_options(required=False)
@click.option("--url", envvar=_URL, show_envvar=True, help="The sidecar's endpoint, if --secret-dir is not set.")
@click.option(
    "--authorization-file",
    envvar=_FILE,
    show_envvar=True,
    type=FILE,
    help="File with the token to send to the endpoint.",
)
def credential_process(secret_dir: Path | None, key: str, url: str | None, authorization_file: Path | None) -> None:
    """Print credentials as a version 1 document, or exit with code 1 and a reason on stderr."""
    try:
        if secret_dir:
            secret = MountedSecret(secret_dir, key)
            # A program other than the kubelet may be replacing the files one by one: wait until no file has changed for
            # half a second, but for at most two seconds.
            for _ in range(_POLLS):
                if abs(now() - secret.last_changed()) >= _UNCHANGED:
                    break
                time.sleep(_POLL_SECONDS)
            credentials = secret.read()
        elif url and authorization_file:
            from keyturn.sidecar.client import fetch_credentials  # noqa: PLC0415 - h11 is not loaded to read a file

            credentials = fetch_credentials(url, authorization_file)
        else:
            raise click.UsageError("set --secret-dir, or --url and --authorization-file")
        fields = json.loads(CredentialCache(now, credentials, failure="").document())
    except NoCredentialsError as error:
        echo(f"keyturn credential-process: {error}", err=True)
        sys.exit(1)
    fields["SessionToken"] = fields.pop("Token")
    echo(json.dumps({"Version": 1} | fields))
