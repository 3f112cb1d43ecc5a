"""kubectl keyturn renew."""

import click

from keyturn.api.token_request import RENEW_REQUESTED
from keyturn.cli import now
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import REQUESTS, Cluster, ClusterError, Object, cluster_options, completing
from keyturn.cli.kubectl.describe import view_request


@click.command(help=COMMANDS["renew"].summary)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completing(REQUESTS))
@click.option("--all", "select_all", is_flag=True, help="Renew all TokenRequests in the namespace.")
@click.option("--wait", is_flag=True, help="Wait for the attempt to finish; exit with 1 if it fails.")
@click.option("--timeout", type=click.IntRange(1), default=60, show_default=True, help="Timeout for --wait in seconds.")
@cluster_options
def renew(cluster: Cluster, names: tuple[str, ...], *, select_all: bool, wait: bool, timeout: int) -> None:
    if select_all == bool(names):
        raise click.UsageError("specify either NAMEs or --all")
    requests = cluster.list_objects(REQUESTS) if select_all else [cluster.get(REQUESTS, name) for name in names]
    suspended = [body["metadata"]["name"] for body in requests if body["spec"].get("suspend")]
    if suspended and not select_all:
        raise ClusterError(f"{', '.join(suspended)}: suspended; set spec.suspend to false to renew")
    active = [body["metadata"]["name"] for body in requests if not body["spec"].get("suspend")]
    if not active:
        raise ClusterError("no TokenRequest to renew in this namespace")
    # Microseconds, because a second request within the same second must have another value.
    requested_at = now().isoformat().replace("+00:00", "Z")
    cluster.run("annotate", REQUESTS, *active, "--overwrite", f"{RENEW_REQUESTED}={requested_at}")
    if not wait:
        click.echo(f"renewal requested: {', '.join(active)}")
        return
    cluster.run("wait", f"--for=jsonpath={{.status.lastHandledRenewRequest}}={requested_at}", f"--timeout={timeout}s",
                *(f"{REQUESTS}/{name}" for name in active))  # fmt: skip
    _report([cluster.get(REQUESTS, name) for name in active])


def _report(requests: list[Object]) -> None:
    failures = []
    for view in [view_request(request, now()) for request in requests]:
        if view.last_error:
            failures.append(f"{view.name}: {view.last_error}")
        else:
            click.echo(f"{view.name}: renewed, valid until {view.status.expiration_time}")
    if failures:
        raise ClusterError("\n".join(failures))
