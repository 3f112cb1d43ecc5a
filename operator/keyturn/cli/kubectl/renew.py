"""kubectl keyturn renew."""

import click

from keyturn.api.token_request import RENEW_REQUESTED
from keyturn.cli.clock import now
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import REQUESTS, Body, Cluster, ClusterError, cluster_options, completing
from keyturn.cli.kubectl.describe import tell


@click.command(help=COMMANDS["renew"])
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completing(REQUESTS))
@click.option("--all", "everything", is_flag=True, help="All TokenRequests of the namespace.")
@click.option("--wait", is_flag=True, help="Wait until it was tried; fail if it failed.")
@click.option("--timeout", type=click.IntRange(1), default=60, show_default=True, help="Of --wait, in seconds.")
@cluster_options
def renew(cluster: Cluster, names: tuple[str, ...], *, everything: bool, wait: bool, timeout: int) -> None:
    """Renew now."""
    if everything == bool(names):
        raise click.UsageError("give NAMEs, or --all")
    found = cluster.find(REQUESTS) if everything else [cluster.get(REQUESTS, name) for name in names]
    idle = [body["metadata"]["name"] for body in found if body["spec"].get("suspend")]
    if idle and not everything:
        raise ClusterError(f"{', '.join(idle)}: spec.suspend is set, and nothing is renewed until it is taken away")
    asked = [body["metadata"]["name"] for body in found if not body["spec"].get("suspend")]
    if not asked:
        raise ClusterError("there is no TokenRequest to renew here")
    # In a fraction of a second there may be two.
    value = now().isoformat().replace("+00:00", "Z")
    cluster.run("annotate", REQUESTS, *asked, "--overwrite", f"{RENEW_REQUESTED}={value}")
    if not wait:
        click.echo(f"asked for: {', '.join(asked)}")
        return
    cluster.run("wait", f"--for=jsonpath={{.status.lastHandledRenewRequest}}={value}", f"--timeout={timeout}s",
                *(f"{REQUESTS}/{name}" for name in asked))  # fmt: skip
    _check([cluster.get(REQUESTS, name) for name in asked])


def _check(bodies: list[Body]) -> None:
    failed = []
    for told in [tell(body, now()) for body in bodies]:
        if told.last_error:
            failed.append(f"{told.name}: {told.last_error}")
        else:
            click.echo(f"{told.name}: renewed, valid until {told.status.expiration_time}")
    if failed:
        raise ClusterError("\n".join(failed))
