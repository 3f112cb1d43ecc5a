"""kubectl keyturn version: the versions of the client and of the operators in the cluster."""

import click

from keyturn import __version__
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import Cluster, ClusterError, cluster_options
from keyturn.cli.kubectl.operators import list_operators
from keyturn.cli.terminal import echo


@click.command(help=COMMANDS["version"].summary)
@cluster_options
def version(cluster: Cluster) -> None:
    echo(f"Client: {__version__}")
    try:
        operators = list_operators(cluster)
    except ClusterError as error:
        raise ClusterError(f"the version of the operator cannot be read: {error.message}") from None
    echo(*(f"Operator {operator.namespace}/{operator.name}: {operator.version}" for operator in operators))
    if not operators:
        echo("Operator: none was installed with the chart", err=True)
