"""keyturn crd."""

import click
import yaml

from keyturn.api.crd import crd as token_request_crd
from keyturn.cli import COMMANDS


@click.command(help=COMMANDS["crd"].summary)
def crd() -> None:
    click.echo(yaml.safe_dump(token_request_crd(), sort_keys=False, width=120), nl=False)
