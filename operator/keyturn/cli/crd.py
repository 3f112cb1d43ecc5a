"""keyturn crd."""

import click
import yaml

from keyturn.api.crd import crd as token_request_crd
from keyturn.cli import COMMANDS


@click.command(help=COMMANDS["crd"])
def crd() -> None:
    """Print the CustomResourceDefinition."""
    click.echo(yaml.safe_dump(token_request_crd(), sort_keys=False, width=120), nl=False)
