"""keyturn crd."""

from typing import Any

import click
import yaml

from keyturn.api.crd import crd as token_request_crd
from keyturn.cli import COMMANDS


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


@click.command(help=COMMANDS["crd"].summary)
def crd() -> None:
    click.echo(yaml.dump(token_request_crd(), Dumper=_WithoutAliases, sort_keys=False, width=120), nl=False)
