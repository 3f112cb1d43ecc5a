"""kubectl keyturn inspect."""

import click

from keyturn.cli.clock import now
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import Cluster, cluster_options, completing
from keyturn.cli.kubectl.secret_view import find, lines


@click.command(help=COMMANDS["inspect"])
@click.argument("secret", shell_complete=completing("secret"))
@cluster_options
def inspect(cluster: Cluster, secret: str) -> None:
    """Show what a Secret is and holds, without its values."""
    click.echo("\n".join(lines(find(cluster, secret), now())))
