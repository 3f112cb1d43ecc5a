"""keyturn crd."""

import click
import yaml

from keyturn.cli import COMMANDS
from keyturn.core.crd import crd as token_request_crd


@click.command(help=COMMANDS["crd"])
def crd() -> None:
    """Print the CustomResourceDefinition."""
    click.echo(yaml.safe_dump(token_request_crd(), sort_keys=False, width=120), nl=False)
