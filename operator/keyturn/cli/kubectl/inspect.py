"""kubectl keyturn inspect."""

from datetime import UTC, datetime

import click

from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import Cluster, cluster_options, completing
from keyturn.cli.kubectl.secret import find, lines


@click.command(help=COMMANDS["inspect"])
@click.argument("secret", shell_complete=completing("secret"))
@cluster_options
def inspect(cluster: Cluster, secret: str) -> None:
    """Show what a Secret is and holds, without its values."""
    now = datetime.now(UTC)  # noqa: TID251 - the real clock
    click.echo("\n".join(lines(find(cluster, secret), now)))
