"""kubectl keyturn suspend and resume."""

from collections.abc import Callable

import click

from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import REQUESTS, Cluster, ClusterError, cluster_options, completing
from keyturn.cli.terminal import echo


def _selecting(command: Callable[..., None]) -> Callable[..., None]:
    names = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completing(REQUESTS))
    select_all = click.option("--all", "select_all", is_flag=True, help="Select all TokenRequests in the namespace.")
    return names(select_all(cluster_options(command)))


@click.command(help=COMMANDS["suspend"].summary)
@_selecting
def suspend(cluster: Cluster, names: tuple[str, ...], *, select_all: bool) -> None:
    _set_suspend(cluster, names, select_all=select_all, value=True)


@click.command(help=COMMANDS["resume"].summary)
@_selecting
def resume(cluster: Cluster, names: tuple[str, ...], *, select_all: bool) -> None:
    _set_suspend(cluster, names, select_all=select_all, value=False)


def _set_suspend(cluster: Cluster, names: tuple[str, ...], *, select_all: bool, value: bool) -> None:
    """Set spec.suspend. If GitOps manages the TokenRequest, its next sync reverts the change."""
    if select_all == bool(names):
        raise click.UsageError("specify either NAMEs or --all")
    bodies = cluster.list_objects(REQUESTS) if select_all else [cluster.get(REQUESTS, name) for name in names]
    if not bodies:
        raise ClusterError("no TokenRequests in this namespace")
    for body in bodies:
        name, done = body["metadata"]["name"], "suspended" if value else "resumed"
        if bool(body["spec"].get("suspend")) == value:
            echo(f"{name}: already {done}")
            continue
        cluster.run("patch", REQUESTS, name, "--type=merge", f'--patch={{"spec":{{"suspend":{str(value).lower()}}}}}')
        echo(f"{name}: {done}")
